// What the plot can have along its horizontal axis, and scales with readable ticks.

import type { Goal } from "../shared/api";
import { ms, tokens, usd } from "../shared/words";
import type { Candidate, LimitName } from "./decision";

export type AxisName = "cost" | "latency" | "ttft" | "tokens";

export interface Axis {
  name: string;
  read: (candidate: Candidate) => number | null;
  words: (value: number) => string;
  goal: Goal | null;
  limit: LimitName | null;
}

export const AXES: Record<AxisName, Axis> = {
  cost: {
    name: "Predicted cost",
    read: (c) => c.predicted_cost_usd,
    words: usd,
    goal: "cost",
    limit: "max_cost_usd",
  },
  latency: {
    name: "Predicted time to the last token",
    read: (c) => c.predicted_latency_ms,
    words: ms,
    goal: "latency",
    limit: "max_latency_ms",
  },
  ttft: {
    name: "Predicted time to the first token",
    read: (c) => c.predicted_ttft_ms,
    words: ms,
    goal: null,
    limit: "max_ttft_ms",
  },
  tokens: {
    name: "Predicted tokens of the answer",
    read: (c) => c.predicted_output_tokens,
    words: tokens,
    goal: "verbosity",
    limit: null,
  },
};

/** The first axis that tells the candidates apart. */
export function tellingAxis(candidates: readonly Candidate[]): AxisName {
  const order: AxisName[] = ["cost", "latency", "ttft", "tokens"];
  const telling = order.find((name) => {
    const known = candidates.map(AXES[name].read).filter((value) => value !== null);
    return known.length > 1 && Math.max(...known) > Math.min(...known) * 1.001;
  });
  return telling ?? "cost";
}

export interface Scale {
  place: (value: number) => number;
  ticks: number[];
  isLog: boolean;
}

const WIDE = 12;

/** A scale from values to pixels; logarithmic where they span more than an order of magnitude. */
export function scaleOf(values: readonly number[], from: number, to: number, pad: number): Scale {
  const most = Math.max(3, Math.floor(Math.abs(to - from) / (to > from ? 62 : 42)));
  let low = Math.min(...values);
  let high = Math.max(...values);
  const isLog = low > 0 && high / low > WIDE;
  if (isLog) {
    const margin = (high / low) ** pad;
    low /= margin;
    high *= margin;
    const length = Math.log(high / low);
    const place = (value: number) =>
      from + ((to - from) * Math.log(Math.max(value, low / 1e3) / low)) / length;
    return { place, ticks: logTicks(low, high, most), isLog };
  }
  const margin = (high - low || Math.abs(high) || 1) * pad;
  const isNonNegative = low >= 0;
  low -= margin;
  high += margin;
  if (isNonNegative && low < 0) low = 0;
  const place = (value: number) => from + ((to - from) * (value - low)) / (high - low);
  return { place, ticks: linearTicks(low, high, most), isLog };
}

function linearTicks(low: number, high: number, most: number): number[] {
  const raw = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = ([1, 2, 2.5, 5, 10].find((nice) => nice * power >= raw) ?? 10) * power;
  const ticks = [];
  for (let n = Math.ceil(low / step); n * step <= high; n++) ticks.push(n * step);
  return ticks;
}

function logTicks(low: number, high: number, most: number): number[] {
  const all = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const digit of [1, 2, 5]) all.push(digit * 10 ** power);
  }
  const shown = all.filter((tick) => tick >= low && tick <= high);
  if (shown.length <= most) return shown;
  const isDecade = (power: number) => Math.abs(power - Math.round(power)) < 1e-9;
  const decades = shown.filter((tick) => isDecade(Math.log10(tick)));
  return decades.length > 1 ? decades : shown.filter((_, n) => n % Math.ceil(shown.length / most) === 0);
}
