// The gateway's own rule (policies/objective.py), so that a slider can show where the choice will turn
// before the gateway is asked: loss + Σ λ·C, every C scaled to [0, 1] over the feasible candidates.

import type { Goal } from "../shared/api";
import type { Candidate, LimitName, Limits, Weights } from "./decision";
import { LIMITS } from "./decision";

const limited: Record<LimitName, (candidate: Candidate) => number | null> = {
  max_cost_usd: (c) => c.predicted_cost_usd,
  max_ttft_ms: (c) => c.predicted_ttft_ms,
  max_latency_ms: (c) => c.predicted_latency_ms,
  min_quality: (c) => c.predicted_quality,
};

export function limitedValue(candidate: Candidate, name: LimitName): number | null {
  return limited[name](candidate);
}

/** Whether a candidate could be asked under these limits; what else stands against it stays. */
export function isFeasible(candidate: Candidate, limits: Limits): boolean {
  if (candidate.violations.some((v) => !LIMITS.includes(v.constraint as LimitName))) return false;
  return LIMITS.every((name) => {
    const limit = limits[name];
    if (limit === undefined) return true;
    const value = limited[name](candidate);
    // What is unknown cannot be checked, so it breaks the limit.
    return value !== null && (name === "min_quality" ? value >= limit : value <= limit);
  });
}

export interface Weighed {
  candidate: Candidate;
  loss: number;
  terms: Partial<Record<Goal, number>>;
  value: number;
}

/** Every feasible candidate with what its objective is the sum of, best first. */
export function weigh(
  candidates: readonly Candidate[],
  weights: Weights,
  limits: Limits,
): Weighed[] {
  const pool = candidates
    .filter((candidate) => isFeasible(candidate, limits))
    .map((candidate): Weighed => {
      const loss = 1 - candidate.predicted_quality;
      return { candidate, loss, terms: {}, value: loss };
    });
  for (const [goal, weight] of Object.entries(weights) as [Goal, number][]) {
    if (!weight) continue;
    const costs = scaled(pool.map((entry) => entry.candidate.goal_costs[goal]));
    pool.forEach((entry, place) => {
      const term = weight * (costs[place] ?? 0);
      entry.terms[goal] = term;
      entry.value += term;
    });
  }
  const price = (entry: Weighed) => entry.candidate.predicted_cost_usd ?? Number.POSITIVE_INFINITY;
  const name = (entry: Weighed) => entry.candidate.model;
  return pool.sort(
    (a, b) => a.value - b.value || price(a) - price(b) || (name(a) < name(b) ? -1 : 1),
  );
}

function scaled(costs: readonly (number | null)[]): number[] {
  const known = costs.filter((cost) => cost !== null);
  if (!known.length) return costs.map(() => 0);
  const low = Math.min(...known);
  const spread = Math.max(...known) - low;
  if (!spread) return costs.map(() => 0);
  const mean = known.reduce((sum, cost) => sum + (cost - low) / spread, 0) / known.length;
  return costs.map((cost) => (cost === null ? mean : (cost - low) / spread));
}

/** Whether a goal tells candidates apart at all; where it does not, no weight on it moves anything. */
export function tellsApart(candidates: readonly Candidate[], goal: Goal): boolean {
  const known = candidates.map((c) => c.goal_costs[goal]).filter((cost) => cost !== null);
  return known.length > 1 && Math.max(...known) > Math.min(...known);
}

export interface Stretch {
  model: string | null;
  /** Of the way along the slider, in [0, 1]. */
  from: number;
  to: number;
}

/** Who would be chosen at each stop of a slider, neighbours of one mind joined. */
export function stretches(
  candidates: readonly Candidate[],
  at: (stop: number) => { weights: Weights; limits: Limits },
  stops: number,
): Stretch[] {
  const found: Stretch[] = [];
  for (let stop = 0; stop <= stops; stop++) {
    const { weights, limits } = at(stop);
    const model = weigh(candidates, weights, limits)[0]?.candidate.model ?? null;
    const last = found.at(-1);
    const edge = Math.max(0, (stop - 0.5) / stops);
    if (last?.model === model) continue;
    if (last) last.to = edge;
    found.push({ model, from: found.length ? edge : 0, to: 1 });
  }
  return found;
}
