// A decision as `POST /v1/route` tells it.

import type { Goal } from "../shared/api";

export type LimitName = "min_quality" | "max_cost_usd" | "max_ttft_ms" | "max_latency_ms";
export const LIMITS: readonly LimitName[] = [
  "max_cost_usd",
  "max_ttft_ms",
  "max_latency_ms",
  "min_quality",
];
export type Limits = Partial<Record<LimitName, number>>;
export type Weights = Partial<Record<Goal, number>>;

export interface Violation {
  constraint: string;
  limit: number | null;
  actual: number | null;
}

export interface Candidate {
  model: string;
  backend: string;
  predicted_quality: number;
  quality_interval: [number, number];
  predicted_cost_usd: number | null;
  predicted_output_tokens: number;
  predicted_ttft_ms: number | null;
  predicted_latency_ms: number | null;
  feasible: boolean;
  violations: Violation[];
  on_pareto_front: boolean;
  objective_value: number | null;
  goal_costs: Record<Goal, number | null>;
}

export interface Pilot {
  pilot: number;
  task: string | null;
  similarity: number;
  prompts: number;
  example: string;
  outcome: string;
  models: { model: string; mean: number; error: number; prompts: number }[];
}

export interface Decision {
  decision_id: string;
  policy_version: string;
  features: { prompt_tokens: number; capabilities: string[]; nearness: number | null };
  candidates: Candidate[];
  chosen: string;
  order: string[];
  relaxed: string[];
  effective_routing: { objective: string; weights: Weights; router: string } & Record<string, unknown>;
  explanation: string;
  warnings: string[];
  overhead_ms: number;
  nearest_pilots?: Pilot[];
}
