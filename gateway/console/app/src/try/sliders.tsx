// The weights λ and the hard limits. Beneath each slider a strip tells who would be chosen where.

import { useComputed } from "@preact/signals";
import type { Goal } from "../shared/api";
import { colourOf } from "../shared/identity";
import { ms, quality, trim, usd } from "../shared/words";
import type { Candidate, LimitName } from "./decision";
import { decision, isForetold } from "./live";
import { limitedValue, stretches, tellsApart } from "./objective";
import type { Stretch } from "./objective";
import { allLimits, setLimit, setWeight, weights } from "./settings";

/** What a weight is called, and what a high one prefers. */
export const GOAL_WORDS: Record<Goal, [string, string]> = {
  cost: ["Cost", "cheaper models"],
  latency: ["Latency", "faster models"],
  size: ["Size", "smaller models"],
  recency: ["Recency", "newer models"],
  security: ["Security", "models of a higher level"],
  verbosity: ["Verbosity", "shorter answers"],
  readability: ["Readability", "answers that read easily"],
};

const WEIGHT_STOPS = 51;
/** The last stop outweighs all of quality, as the profiles `cheap`, `fast`, `small` and `secure` do. */
const DECISIVE = 100;

function weightAt(stop: number): number {
  return stop >= WEIGHT_STOPS ? DECISIVE : Number((stop / (WEIGHT_STOPS - 1)).toFixed(2));
}

function stopOf(weight: number): number {
  return weight > 1 ? WEIGHT_STOPS : Math.round(weight * (WEIGHT_STOPS - 1));
}

export function WeightSlider(props: { goal: Goal }) {
  const { goal } = props;
  const [name, prefers] = GOAL_WORDS[goal];
  const value = weights.value[goal] ?? 0;
  const candidates = decision.value?.candidates ?? [];
  const isIdle = candidates.length > 0 && !tellsApart(candidates, goal);
  const strip = useComputed(() =>
    stripOf((stop) => ({
      weights: { ...weights.value, [goal]: weightAt(stop) },
      limits: allLimits.value,
    }), WEIGHT_STOPS),
  );
  const told = value > 1 ? `${trim(value)}, decides alone` : value.toFixed(2);
  const id = `weight-${goal}`;
  return (
    <div class={`slider ${isIdle ? "idle" : ""}`}>
      <label for={id}>
        {name} <span class="lambda" aria-hidden="true">λ</span>
      </label>
      <output for={id} class={value ? "set" : ""}>
        {value > 1 ? "decides" : isIdle && !value ? knownOf(candidates, goal) : value.toFixed(2)}
      </output>
      <input
        id={id}
        type="range"
        min={0}
        max={WEIGHT_STOPS}
        value={stopOf(value)}
        aria-valuetext={`${told}; higher prefers ${prefers}`}
        aria-describedby={`${id}-note`}
        onInput={(event) => setWeight(goal, weightAt(Number(event.currentTarget.value)))}
      />
      <Strip stretches={isIdle ? [] : strip.value} />
      <span id={`${id}-note`} class="visually-hidden">
        {isIdle ? `${knownOf(candidates, goal)}, so it moves nothing` : noteOf(strip.value)}
      </span>
    </div>
  );
}

function knownOf(candidates: readonly Candidate[], goal: Goal): string {
  const isKnown = candidates.some((candidate) => candidate.goal_costs[goal] !== null);
  return isKnown ? "the same for all" : "not known yet";
}

interface Scale {
  name: string;
  none: string;
  at: (stop: number) => number;
  words: (value: number) => string;
}

const LIMIT_STOPS = 60;

function decades(from: number, to: number): (stop: number) => number {
  return (stop) => Number((from * (to / from) ** (stop / LIMIT_STOPS)).toPrecision(2));
}

export const LIMIT_WORDS: Record<LimitName, Scale> = {
  max_cost_usd: { name: "Cost at most", none: "any", at: decades(1e-8, 1), words: usd },
  max_ttft_ms: { name: "First token within", none: "any", at: decades(5, 60_000), words: ms },
  max_latency_ms: { name: "Whole answer within", none: "any", at: decades(50, 300_000), words: ms },
  min_quality: {
    name: "Quality at least",
    none: "any",
    // From strict to none, like the other three.
    at: (stop) => Number((1 - stop / LIMIT_STOPS).toFixed(3)),
    words: quality,
  },
};

export function LimitSlider(props: { limit: LimitName }) {
  const { limit } = props;
  const scale = LIMIT_WORDS[limit];
  const value = allLimits.value[limit] ?? null;
  const candidates = decision.value?.candidates ?? [];
  const isUnknown =
    candidates.length > 0 && candidates.every((c) => limitedValue(c, limit) === null);
  const strip = useComputed(() =>
    stripOf((stop) => {
      const { [limit]: _, ...others } = allLimits.value;
      const here = stop >= LIMIT_STOPS ? {} : { [limit]: scale.at(stop) };
      return { weights: weights.value, limits: { ...others, ...here } };
    }, LIMIT_STOPS),
  );
  const id = `limit-${limit}`;
  const told = value === null ? scale.none : scale.words(value);
  return (
    <div class="slider">
      <label for={id}>{scale.name}</label>
      <output for={id} class={value === null ? "" : "set"}>{told}</output>
      <input
        id={id}
        type="range"
        min={0}
        max={LIMIT_STOPS}
        value={value === null ? LIMIT_STOPS : nearestStop(scale, value)}
        aria-valuetext={value === null ? "no limit" : told}
        aria-describedby={`${id}-note`}
        onInput={(event) => {
          const stop = Number(event.currentTarget.value);
          setLimit(limit, stop >= LIMIT_STOPS ? null : scale.at(stop));
        }}
      />
      <Strip stretches={strip.value} />
      <span id={`${id}-note`} class={isUnknown ? "slider-note" : "visually-hidden"}>
        {isUnknown ? "not known of any candidate yet, so any limit excludes all" : noteOf(strip.value)}
      </span>
    </div>
  );
}

function nearestStop(scale: Scale, value: number): number {
  let best = 0;
  for (let stop = 0; stop < LIMIT_STOPS; stop++) {
    if (Math.abs(scale.at(stop) - value) < Math.abs(scale.at(best) - value)) best = stop;
  }
  return best;
}

function stripOf(
  at: Parameters<typeof stretches>[1],
  stops: number,
): Stretch[] {
  const told = decision.value;
  return told && isForetold.value ? stretches(told.candidates, at, stops) : [];
}

function noteOf(strip: readonly Stretch[]): string {
  const models = strip.map((stretch) => stretch.model ?? "nobody");
  return models.length > 1 ? `Along the slider: ${models.join(", then ")}.` : "";
}

/** Who is chosen along a slider; the thumb's own width is kept free at both ends. */
function Strip(props: { stretches: readonly Stretch[] }) {
  return (
    <div class="strip" aria-hidden="true">
      {props.stretches.map((stretch) => (
        <span
          key={stretch.from}
          class={stretch.model ? "" : "nobody"}
          title={stretch.model ?? "nobody"}
          style={{
            left: `${stretch.from * 100}%`,
            width: `${(stretch.to - stretch.from) * 100}%`,
            ...(stretch.model ? { background: colourOf(stretch.model) } : {}),
          }}
        />
      ))}
    </div>
  );
}
