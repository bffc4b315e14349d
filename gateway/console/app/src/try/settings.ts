// What the reader has set, as signals, and the request that it makes.

import { computed, signal } from "@preact/signals";
import type { About, Goal } from "../shared/api";
import type { LimitName, Limits, Weights } from "./decision";
import { LIMITS } from "./decision";

export const EXAMPLES: readonly [string, string][] = [
  [
    "Arithmetic",
    "Natalia sold 48 clips in April and half as many in May. How many clips did she sell altogether?",
  ],
  ["Code", "Write a Python function that checks whether a string is a palindrome."],
  [
    "Clinic",
    "A 54-year-old man has had crushing chest pain for an hour. What should be done first?",
  ],
  ["Patent", "A hinge assembly comprising a first leaf, a second leaf and a pin. State a claim for it."],
];

export const prompt = signal(EXAMPLES[0]?.[1] ?? "");
/** Empty where the profile is left to the gateway. */
export const profile = signal("");
/** Weights that were set by hand, laid over those of the profile. */
export const overrides = signal<Weights>({});
export const limits = signal<Limits>({});
export const router = signal("");
export const leftOut = signal<readonly string[]>([]);
export const maxTokens = signal(160);
export const about = signal<About | null>(null);

/** What the reader left open and the key, or the operator's policy, filled in for the last decision. */
export const filledIn = signal<{ profile: string; weights: Weights; limits: Limits } | null>(null);

export const weights = computed<Weights>(() => ({
  ...about.value?.profiles[profile.value || "best"],
  ...(filledIn.value?.profile === profile.value ? filledIn.value.weights : {}),
  ...overrides.value,
}));

/** The limits in force; `limits` are those that the reader set. */
export const allLimits = computed<Limits>(() => ({ ...filledIn.value?.limits, ...limits.value }));

export function setWeight(goal: Goal, value: number): void {
  overrides.value = { ...overrides.value, [goal]: value };
}

export function setLimit(name: LimitName, value: number | null): void {
  const { [name]: _, ...rest } = limits.value;
  limits.value = value === null ? rest : { ...rest, [name]: value };
}

export function setProfile(name: string): void {
  profile.value = name;
  overrides.value = {};
}

export function toggleLeftOut(model: string): void {
  const now = leftOut.value;
  leftOut.value = now.includes(model) ? now.filter((name) => name !== model) : [...now, model];
}

export const isChanged = computed(
  () =>
    profile.value !== "" ||
    router.value !== "" ||
    Object.keys(overrides.value).length > 0 ||
    Object.keys(limits.value).length > 0 ||
    leftOut.value.length > 0,
);

export function reset(): void {
  setProfile("");
  router.value = "";
  limits.value = {};
  leftOut.value = [];
}

/** The `routing` object, with what was set and nothing else. */
export const routing = computed<Record<string, unknown>>(() => {
  const told: Record<string, unknown> = {};
  if (profile.value) told.objective = profile.value;
  if (Object.keys(overrides.value).length) told.weights = overrides.value;
  for (const name of LIMITS) {
    if (limits.value[name] !== undefined) told[name] = limits.value[name];
  }
  if (leftOut.value.length) told.models = { deny: leftOut.value };
  if (router.value) told.router = router.value;
  return told;
});

export function chatBody(model: string, withRouting: boolean): Record<string, unknown> {
  return {
    model,
    messages: [{ role: "user", content: prompt.value }],
    ...(withRouting && Object.keys(routing.value).length ? { routing: routing.value } : {}),
  };
}
