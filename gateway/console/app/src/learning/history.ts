// What the gateway tells of the routers that it learnt from traffic.

import { effect, signal } from "@preact/signals";
import { get, key } from "../shared/api";
import { about } from "../try/settings";

export interface Measures {
  routed_quality: number | null;
  best_single: number | null;
  difference: number | null;
  difference_low: number | null;
  difference_high: number | null;
}

export interface Version {
  id: string;
  created_s: number;
  stage: "trained" | "shadow" | "promoted" | "rejected" | "rolled_back";
  reason: string;
  train_prompts: number | null;
  metrics: Measures;
}

export interface Learning {
  enabled: boolean;
  active: { id: string; since_s: number | null; metrics: Measures } | null;
  versions: Version[];
  last_step: { ended_s: number; is_good: boolean; said: string; every_s: number | null } | null;
}

/** Whether this gateway learns at all; where it does not, there is nothing to show. */
export const learns = signal(false);

export function learningPath(): string {
  return about.value?.place === "admin" ? "admin/learning" : "console/api/learning";
}

// Asked again with each key, since without the right one nothing is told.
effect(() => {
  const place = about.value;
  const isShut = place && (place.place === "admin" || place.auth === "keys") && !key.value;
  if (!place || isShut) return;
  get<Learning>(learningPath()).then(
    (told) => (learns.value = told.enabled),
    () => (learns.value = false),
  );
});
