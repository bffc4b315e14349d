// Quality against cost, one mark for each candidate: drawn as SVG, walked through with arrow keys.

import { signal, useComputed, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { Mark, ModelName, shortNames } from "../shared/identity";
import { ms, quality, tokens, usd } from "../shared/words";
import { AXES, tellingAxis } from "./axes";
import type { Axis, AxisName } from "./axes";
import type { Candidate, Decision, Limits } from "./decision";
import { decision, isInfeasible } from "./live";
import { isFeasible, weigh } from "./objective";
import { frontOf, layOut, placeLabels } from "./placing";
import type { Layout, Placed } from "./placing";
import { allLimits, weights } from "./settings";

/** The axis that the reader chose; none follows what tells the candidates apart. */
export const chosenAxis = signal<AxisName | "">("");
/** Who is asked beside the chosen model. */
export const rival = signal("");

export function Plot() {
  const box = useRef<HTMLDivElement>(null);
  const width = useSignal(0);
  useEffect(() => {
    const watched = new ResizeObserver(([entry]) => {
      width.value = Math.round(entry?.contentRect.width ?? 0);
    });
    if (box.current) watched.observe(box.current);
    return () => watched.disconnect();
  }, []);
  const told = decision.value;
  return (
    <div class="plot" ref={box}>
      {told && width.value > 0 && <Drawing decision={told} width={width.value} />}
    </div>
  );
}

function Drawing(props: { decision: Decision; width: number }) {
  const { candidates } = props.decision;
  const axis = AXES[chosenAxis.value || tellingAxis(candidates)];
  const limit = { x: axis.limit ? (allLimits.value[axis.limit] ?? null) : null, y: allLimits.value.min_quality ?? null };
  const layout = layOut(candidates, axis, limit, props.width);
  const feasible = new Set(
    candidates.filter((c) => isFeasible(c, allLimits.value)).map((c) => c.model),
  );
  const active = useSignal<string | null>(null);
  const chosen = isInfeasible.value ? null : props.decision.chosen;
  const { frame } = layout;
  return (
    <>
      <svg
        width={frame.width}
        height={frame.height}
        role="group"
        aria-label={`Predicted quality against ${axis.name.toLowerCase()}, one point a candidate`}
        onMouseLeave={() => (active.value = null)}
      >
        <Grid layout={layout} axis={axis} candidates={candidates} />
        <Forbidden layout={layout} limit={limit} />
        <Front layout={layout} axis={axis} feasible={feasible} />
        <EquallyGood layout={layout} axis={axis} chosen={chosen} candidates={candidates} />
        <Points
          layout={layout}
          feasible={feasible}
          chosen={chosen}
          active={active.value}
          activate={(model) => (active.value = model)}
        />
      </svg>
      <Card layout={layout} model={active.value} chosen={chosen} limits={allLimits.value} />
    </>
  );
}

function Grid(props: { layout: Layout; axis: Axis; candidates: readonly Candidate[] }) {
  const { frame, x, y, gutter } = props.layout;
  const middle = (frame.left + frame.right) / 2;
  const value = props.candidates.map(props.axis.read).find((known) => known !== null);
  const tied =
    value == null
      ? `${props.axis.name}: not known of any candidate yet`
      : `${props.axis.name}: ${props.axis.words(value)} for all`;
  return (
    <g class="grid" aria-hidden="true">
      {y.ticks.map((tick) => (
        <g key={`y${tick}`}>
          <line x1={frame.left} x2={frame.right} y1={y.place(tick)} y2={y.place(tick)} />
          <text x={frame.left - 9} y={y.place(tick) + 4} text-anchor="end">
            {Number(tick.toFixed(3))}
          </text>
        </g>
      ))}
      {x?.ticks.map((tick) => (
        <g key={`x${tick}`}>
          <line x1={x.place(tick)} x2={x.place(tick)} y1={frame.top} y2={frame.bottom} />
          <text x={x.place(tick)} y={frame.bottom + 18} text-anchor="middle">
            {props.axis.words(tick)}
          </text>
        </g>
      ))}
      {gutter !== null && (
        <>
          <line class="gutter" x1={gutter} x2={gutter} y1={frame.top} y2={frame.bottom} />
          <text x={(gutter + frame.right) / 2} y={frame.bottom + 18} text-anchor="middle">
            unknown
          </text>
        </>
      )}
      <line class="base" x1={frame.left} x2={frame.right} y1={frame.bottom} y2={frame.bottom} />
      <text class="axis-name" x={middle} y={frame.height - 8} text-anchor="middle">
        {x === null ? tied : `${props.axis.name}${x.isLog ? " (log)" : ""} →`}
      </text>
      <text class="axis-name" x={frame.left + 8} y={frame.top + 4}>
        ↑ predicted quality
      </text>
    </g>
  );
}

/** What the hard limits rule out. */
function Forbidden(props: { layout: Layout; limit: { x: number | null; y: number | null } }) {
  const { frame, x, y } = props.layout;
  const across = props.limit.x === null || x === null ? null : x.place(props.limit.x);
  const from = across === null ? null : Math.min(frame.right, Math.max(frame.left, across));
  const floor = props.limit.y === null ? null : Math.min(frame.bottom, y.place(props.limit.y));
  return (
    <g class="forbidden" aria-hidden="true">
      <defs>
        <pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
          <rect width="7" height="7" class="hatch-ground" />
          <line x1="0" x2="0" y1="0" y2="7" class="hatch-line" />
        </pattern>
      </defs>
      {from !== null && (
        <>
          <rect x={from} y={frame.top} width={frame.right - from} height={frame.bottom - frame.top} />
          <line x1={from} x2={from} y1={frame.top} y2={frame.bottom} />
        </>
      )}
      {floor !== null && (
        <>
          <rect x={frame.left} y={floor} width={frame.right - frame.left} height={frame.bottom - floor} />
          <line x1={frame.left} x2={frame.right} y1={floor} y2={floor} />
        </>
      )}
    </g>
  );
}

function Front(props: { layout: Layout; axis: Axis; feasible: Set<string> }) {
  const { frame, x, gutter } = props.layout;
  if (x === null) return null;
  const front = frontOf(props.layout.points, props.axis, props.feasible);
  const [first] = front;
  if (!first) return null;
  const edge = gutter ?? frame.right;
  const steps = front.map((p, n) => (n ? `H${p.x}V${p.y}` : `M${p.x},${p.y}`)).join("");
  return (
    <g class="front" aria-hidden="true">
      <path class="front-area" d={`${steps}H${edge}V${frame.bottom}H${first.x}Z`} />
      <path class="front-line" d={`M${first.x},${frame.bottom}V${first.y}${steps.replace(/^M[^H]*/, "")}H${edge}`} />
    </g>
  );
}

/** Where a candidate would have the chosen one's objective: quality that its price would have to buy. */
function EquallyGood(props: {
  layout: Layout;
  axis: Axis;
  chosen: string | null;
  candidates: readonly Candidate[];
}) {
  const { goal } = props.axis;
  const { frame, x, y, gutter } = props.layout;
  const weight = goal ? (weights.value[goal] ?? 0) : 0;
  if (!goal || !weight || x === null) return null;
  const pool = weigh(props.candidates, weights.value, allLimits.value).map((w) => w.candidate);
  const costs = pool.map((c) => c.goal_costs[goal]).filter((cost) => cost !== null);
  const best = pool.find((c) => c.model === props.chosen);
  const cost = best?.goal_costs[goal];
  const spread = Math.max(...costs) - Math.min(...costs);
  if (!best || cost == null || !spread) return null;
  const from = Math.min(...costs);
  const steps = Array.from({ length: 61 }, (_, n) => {
    const share = n / 60;
    const value = x.isLog ? from * ((from + spread) / from) ** share : from + spread * share;
    const level = best.predicted_quality + (weight * (value - cost)) / spread;
    return [x.place(value), y.place(level)] as const;
  }).filter(([px, py]) => px <= (gutter ?? frame.right) && py >= frame.top && py <= frame.bottom);
  if (steps.length < 2) return null;
  const path = steps.map(([px, py], n) => `${n ? "L" : "M"}${px},${py}`).join("");
  return <path class="equally-good" d={path} aria-hidden="true" />;
}

interface PointsProps {
  layout: Layout;
  feasible: Set<string>;
  chosen: string | null;
  active: string | null;
  activate: (model: string | null) => void;
}

function Points(props: PointsProps) {
  const { points } = props.layout;
  const order = [...points].sort((a, b) => a.x - b.x);
  const short = shortNames(points.map((p) => p.candidate.model));
  const isNarrow = props.layout.frame.width < 560;
  const textOf = (c: Candidate) => (isNarrow ? short.get(c.model) : c.model) ?? c.model;
  const labels = placeLabels(props.layout, textOf);
  const stop = useComputed(() => rival.value);
  const current =
    order.find((p) => p.candidate.model === props.active) ??
    order.find((p) => p.candidate.model === (props.chosen ?? stop.value)) ??
    order[0];
  const move = (event: KeyboardEvent, from: Placed) => {
    const place = order.indexOf(from);
    const steps: Record<string, number> = {
      ArrowRight: place + 1,
      ArrowUp: place + 1,
      ArrowLeft: place - 1,
      ArrowDown: place - 1,
      Home: 0,
      End: order.length - 1,
    };
    const to = steps[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = order[Math.min(order.length - 1, Math.max(0, to))];
    const shown = (event.currentTarget as Element).parentElement?.querySelector<SVGGElement>(
      `[data-model="${CSS.escape(next?.candidate.model ?? "")}"]`,
    );
    shown?.focus();
  };
  return (
    <g>
      {points.map((point, place) => {
        const { model } = point.candidate;
        const isOut = !props.feasible.has(model);
        const label = labels[place];
        return (
          <g
            key={model}
            class={`point ${isOut ? "out" : ""} ${model === props.chosen ? "chosen" : ""}`}
            data-model={model}
            role="button"
            tabIndex={point === current ? 0 : -1}
            aria-pressed={rival.value === model}
            aria-label={sentence(point.candidate, model === props.chosen, isOut)}
            onFocus={() => props.activate(model)}
            onBlur={() => props.activate(null)}
            onMouseEnter={() => props.activate(model)}
            onClick={() => (rival.value = model)}
            onKeyDown={(event) => {
              if (event.key === "Enter" || event.key === " ") {
                event.preventDefault();
                rival.value = model;
              } else if (event.key === "Escape") props.activate(null);
              else move(event, point);
            }}
          >
            <circle class="hit" cx={point.x} cy={point.y} r={16} />
            <Whisker point={point} />
            <circle class="ring" cx={point.x} cy={point.y} r={12.5} />
            <Mark model={model} x={point.x} y={point.y} r={6.4} hollow={isOut} />
            {label && (
              <text class="name" x={label.x} y={label.y} text-anchor={label.anchor}>
                {textOf(point.candidate)}
              </text>
            )}
          </g>
        );
      })}
    </g>
  );
}

function Whisker({ point }: { point: Placed }) {
  const d = `M${point.x},${point.low}V${point.high}M${point.x - 4},${point.low}h8M${point.x - 4},${point.high}h8`;
  return <path class="whisker" d={d} />;
}

function sentence(c: Candidate, isChosen: boolean, isOut: boolean): string {
  const [low, high] = c.quality_interval;
  return [
    `${c.model}${isChosen ? ", chosen" : ""}${isOut ? ", ruled out" : ""}`,
    `predicted quality ${quality(c.predicted_quality)}, between ${quality(low)} and ${quality(high)}`,
    `cost ${usd(c.predicted_cost_usd)}`,
    `whole answer in ${ms(c.predicted_latency_ms)}`,
    "press Enter to run it beside the chosen one",
  ].join("; ");
}

function Card(props: { layout: Layout; model: string | null; chosen: string | null; limits: Limits }) {
  const point = props.layout.points.find((p) => p.candidate.model === props.model);
  if (!point) return null;
  const c = point.candidate;
  const isRight = point.x > props.layout.frame.width / 2;
  const style = {
    top: `${Math.max(0, Math.min(point.y - 40, props.layout.frame.height - 190))}px`,
    ...(isRight
      ? { right: `${props.layout.frame.width - point.x + 22}px` }
      : { left: `${point.x + 22}px` }),
  };
  return (
    <div class="card" style={style} aria-hidden="true">
      <ModelName model={c.model} strong />
      <dl>
        <dt>Quality</dt>
        <dd>
          {quality(c.predicted_quality)}
          <small> {quality(c.quality_interval[0])} to {quality(c.quality_interval[1])}</small>
        </dd>
        <dt>Cost</dt>
        <dd>{usd(c.predicted_cost_usd)}</dd>
        <dt>First token</dt>
        <dd>{ms(c.predicted_ttft_ms)}</dd>
        <dt>Whole answer</dt>
        <dd>{ms(c.predicted_latency_ms)}</dd>
        <dt>Tokens</dt>
        <dd>{tokens(c.predicted_output_tokens)}</dd>
      </dl>
      <p>
        {c.model === props.chosen
          ? "Chosen"
          : isFeasible(c, props.limits)
            ? "Click to run it beside the chosen one"
            : "Ruled out"}
      </p>
    </div>
  );
}
