// Where candidates and their names stand on the plot.

import type { Candidate } from "./decision";
import type { Axis, Scale } from "./axes";
import { scaleOf } from "./axes";

export interface Frame {
  width: number;
  height: number;
  left: number;
  right: number;
  top: number;
  bottom: number;
}

export interface Placed {
  candidate: Candidate;
  x: number;
  y: number;
  low: number;
  high: number;
  isKnown: boolean;
}

export interface Layout {
  frame: Frame;
  points: Placed[];
  /** None where the axis does not tell the candidates apart: then they stand side by side. */
  x: Scale | null;
  y: Scale;
  gutter: number | null;
}

const GUTTER = 84;

export function layOut(
  candidates: readonly Candidate[],
  axis: Axis,
  limits: { x: number | null; y: number | null },
  width: number,
): Layout {
  const height = Math.round(Math.min(430, Math.max(300, width * 0.52)));
  const frame = { width, height, left: 50, right: width - 20, top: 18, bottom: height - 50 };
  const known = candidates.map(axis.read).filter((value) => value !== null);
  const hasUnknown = known.length < candidates.length;
  const spreads = known.length > 1 && Math.max(...known) > Math.min(...known);
  const gutter = spreads && hasUnknown ? frame.right - GUTTER : null;
  const qualities = candidates.flatMap((c) => c.quality_interval);
  if (limits.y !== null) qualities.push(limits.y);
  const y = scaleOf(qualities, frame.bottom, frame.top, 0.06);
  const edge = gutter ?? frame.right;
  // A limit far off must not press the candidates together.
  const near = limits.x !== null && spreads && isNear(limits.x, known) ? [limits.x] : [];
  const x = spreads ? scaleOf([...known, ...near], frame.left + 18, edge - 18, 0.07) : null;
  const byQuality = [...candidates].sort((a, b) => b.predicted_quality - a.predicted_quality);
  const points = byQuality.map((candidate, rank): Placed => {
    const value = axis.read(candidate);
    const beside = frame.left + ((rank + 0.5) * (frame.right - frame.left)) / byQuality.length;
    return {
      candidate,
      x: x === null ? beside : value === null ? edge + GUTTER / 2 : x.place(value),
      y: y.place(candidate.predicted_quality),
      low: y.place(candidate.quality_interval[0]),
      high: y.place(candidate.quality_interval[1]),
      isKnown: value !== null,
    };
  });
  if (x !== null) standApart(points);
  return { frame, points, x, y, gutter };
}

function isNear(limit: number, known: readonly number[]): boolean {
  return limit > 0 && limit < Math.max(...known) * 4 && limit > Math.min(...known) / 4;
}

/** Whoever would stand on another's interval steps aside by as little as can be seen. */
function standApart(points: Placed[]): void {
  const step = 9;
  const settled: Placed[] = [];
  for (const point of points) {
    const home = point.x;
    for (let n = 0; settled.some((other) => Math.abs(other.x - point.x) < step - 1); n++) {
      point.x = home + (n % 2 ? -1 : 1) * step * Math.ceil((n + 1) / 2);
    }
    settled.push(point);
  }
}

export interface Label {
  x: number;
  y: number;
  anchor: "start" | "end" | "middle";
}

interface Box {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

const CHAR_WIDTH = 6.7;

/** A place for every name that covers no point, no interval and no other name; none where there is none. */
export function placeLabels(layout: Layout, textOf: (c: Candidate) => string): (Label | null)[] {
  const taken: Box[] = layout.points.map((p) => around(p.x, p.y, 9, 9));
  const { frame } = layout;
  return layout.points.map((point, place) => {
    const width = textOf(point.candidate).length * CHAR_WIDTH;
    const others = taken.filter((_, index) => index !== place);
    for (const [dx, dy, anchor] of tries()) {
      const x = point.x + dx;
      const y = point.y + dy;
      const left = anchor === "start" ? x : anchor === "end" ? x - width : x - width / 2;
      const box = { left, right: left + width, top: y - 11, bottom: y + 4 };
      const fits = box.left >= frame.left && box.right <= frame.width - 2 && box.top >= 0;
      if (fits && !others.some((other) => overlap(box, other))) {
        taken.push(box);
        return { x, y, anchor };
      }
    }
    return null;
  });
}

function tries(): [number, number, Label["anchor"]][] {
  return [
    [13, 4, "start"],
    [-13, 4, "end"],
    [13, -9, "start"],
    [13, 17, "start"],
    [-13, -9, "end"],
    [-13, 17, "end"],
  ];
}

function around(x: number, y: number, dx: number, dy: number): Box {
  return { left: x - dx, right: x + dx, top: y - dy, bottom: y + dy };
}

function overlap(a: Box, b: Box): boolean {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}

/** The feasible candidates that none beats in both quality and what the axis shows, cheapest first. */
export function frontOf(points: readonly Placed[], axis: Axis, feasible: Set<string>): Placed[] {
  const pool = points
    .filter((point) => point.isKnown && feasible.has(point.candidate.model))
    .sort(
      (a, b) =>
        (axis.read(a.candidate) ?? 0) - (axis.read(b.candidate) ?? 0) ||
        b.candidate.predicted_quality - a.candidate.predicted_quality,
    );
  const front: Placed[] = [];
  for (const point of pool) {
    const best = front.at(-1)?.candidate.predicted_quality ?? Number.NEGATIVE_INFINITY;
    if (point.candidate.predicted_quality > best) front.push(point);
  }
  return front;
}
