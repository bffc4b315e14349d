// The decision for what is set now, asked for again whenever that changes.

import { batch, computed, effect, signal } from "@preact/signals";
import { key, messageOf, send } from "../shared/api";
import { meetModels } from "../shared/identity";
import type { Decision } from "./decision";
import { LIMITS } from "./decision";
import { weigh } from "./objective";
import * as settings from "./settings";
import { allLimits, chatBody, prompt, weights } from "./settings";

const PAUSE_MS = 140;

export const decision = signal<Decision | null>(null);
/** Whether no model honours every limit; `decision` then shows who comes nearest, and by how much. */
export const isInfeasible = computed(() => (decision.value?.relaxed.length ?? 0) > 0);
export const trouble = signal("");
export const isAsking = signal(false);

/** Whether the gateway decided by the objective alone, so that the same rule foretells it here. */
export const isForetold = computed(() => {
  const told = decision.value;
  if (!told) return false;
  const foretold = weigh(told.candidates, weights.value, allLimits.value)[0]?.candidate.model;
  return isInfeasible.value ? foretold === undefined : foretold === told.chosen;
});

let asked: AbortController | null = null;

export async function decide(): Promise<void> {
  asked?.abort();
  const mine = new AbortController();
  asked = mine;
  isAsking.value = true;
  const body = chatBody("auto", true);
  // Where nobody honours every limit an answer that says by how much helps more than an error.
  const told = { ...(body.routing as object), explain: "full", on_infeasible: "best_effort" };
  const left = openQuestions();
  try {
    const path = "v1/route";
    const found = await send<Decision>(path, { ...body, routing: told }, "POST", mine.signal);
    meetModels(found.candidates.map((candidate) => candidate.model));
    batch(() => {
      settings.filledIn.value = left(found);
      decision.value = found;
      trouble.value = "";
    });
  } catch (error) {
    if (mine.signal.aborted) return;
    batch(() => {
      decision.value = null;
      trouble.value = messageOf(error);
    });
  } finally {
    if (asked === mine) isAsking.value = false;
  }
}

/** Tell later what of a decision's weights and limits comes from others than the reader. */
function openQuestions(): (told: Decision) => NonNullable<typeof settings.filledIn.value> {
  const profile = settings.profile.value;
  const overrides = settings.overrides.value;
  const limits = settings.limits.value;
  return (told) => {
    const { weights: inForce, ...rest } = told.effective_routing;
    const isOpen = ([goal]: [string, unknown]) => !(goal in overrides);
    const others = LIMITS.filter((name) => !(name in limits) && typeof rest[name] === "number");
    return {
      profile,
      weights: Object.fromEntries(Object.entries(inForce).filter(isOpen)),
      limits: Object.fromEntries(others.map((name) => [name, rest[name] as number])),
    };
  };
}

/** Follow what the reader sets, until the returned function is called. */
export function follow(): () => void {
  let timer = 0;
  const stop = effect(() => {
    const body = JSON.stringify(chatBody("auto", true));
    void key.value;
    clearTimeout(timer);
    if (!prompt.value.trim()) {
      decision.value = null;
      return;
    }
    void body;
    timer = window.setTimeout(() => void decide(), PAUSE_MS);
  });
  return () => {
    stop();
    clearTimeout(timer);
  };
}
