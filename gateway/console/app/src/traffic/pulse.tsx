// When requests came and how long each took: the shape of the traffic; the table has the figures.

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { Mark } from "../shared/identity";
import { Panel } from "../shared/pieces";
import { clock, ms } from "../shared/words";
import { scaleOf } from "../try/axes";
import type { Row } from "./requests";

const HEIGHT = 132;
const LEFT = 58;
const BOTTOM = HEIGHT - 22;

export function Pulse({ rows }: { rows: readonly Row[] }) {
  const box = useRef<HTMLDivElement>(null);
  const width = useSignal(0);
  useEffect(() => {
    const watched = new ResizeObserver(([entry]) => {
      width.value = Math.round(entry?.contentRect.width ?? 0);
    });
    if (box.current) watched.observe(box.current);
    return () => watched.disconnect();
  }, []);
  return (
    <Panel title="When, and how long" aside={<span class="quiet">hollow: not answered</span>}>
      <div class="pulse" ref={box}>
        {width.value > 0 && <Dots rows={rows} width={width.value} />}
      </div>
    </Panel>
  );
}

function Dots({ rows, width }: { rows: readonly Row[]; width: number }) {
  const times = rows.map((row) => row.at_s);
  const first = Math.min(...times);
  const span = Math.max(...times) - first || 1;
  const right = width - 12;
  const x = (atS: number) => LEFT + 12 + ((atS - first) / span) * (right - LEFT - 24);
  const y = scaleOf(rows.map((row) => Math.max(row.duration_ms, 0.1)), BOTTOM - 8, 12, 0.04);
  const ticks = Math.max(2, Math.floor(width / 190));
  return (
    <svg width={width} height={HEIGHT} aria-hidden="true" class="grid">
      {y.ticks.map((tick) => (
        <g key={tick}>
          <line x1={LEFT} x2={right} y1={y.place(tick)} y2={y.place(tick)} />
          <text x={LEFT - 8} y={y.place(tick) + 4} text-anchor="end">
            {ms(tick)}
          </text>
        </g>
      ))}
      <line class="base" x1={LEFT} x2={right} y1={BOTTOM} y2={BOTTOM} />
      {Array.from({ length: ticks }, (_, n) => first + (span * n) / (ticks - 1)).map((atS, n) => (
        <text
          key={n}
          x={x(atS)}
          y={HEIGHT - 4}
          text-anchor={n === 0 ? "start" : n === ticks - 1 ? "end" : "middle"}
        >
          {clock(atS)}
        </text>
      ))}
      {[...rows].reverse().map((row) => (
        <g key={row.request_id}>
          <title>{`${row.model}, ${ms(row.duration_ms)}`}</title>
          <Mark
            model={row.model}
            x={x(row.at_s)}
            y={y.place(Math.max(row.duration_ms, 0.1))}
            r={4.2}
            hollow={row.outcome !== "ok"}
          />
        </g>
      ))}
    </svg>
  );
}
