// Every candidate in figures: the plot's twin for who does not see it, and why some are ruled out.

import type { Goal } from "../shared/api";
import { ModelName } from "../shared/identity";
import { Table } from "../shared/pieces";
import { ms, quality, tokens, usd } from "../shared/words";
import type { Candidate, Decision, Violation } from "./decision";
import { isForetold, isInfeasible } from "./live";
import { weigh } from "./objective";
import type { Weighed } from "./objective";
import { allLimits, leftOut, toggleLeftOut, weights } from "./settings";
import { GOAL_WORDS, LIMIT_WORDS } from "./sliders";

export function Candidates({ told }: { told: Decision }) {
  const weighed = weigh(told.candidates, weights.value, allLimits.value);
  const byModel = new Map(weighed.map((entry) => [entry.candidate.model, entry]));
  const rank = (c: Candidate) => {
    const place = told.order.indexOf(c.model);
    return place < 0 ? told.candidates.length : place;
  };
  const rows = [...told.candidates].sort(
    (a, b) => rank(a) - rank(b) || b.predicted_quality - a.predicted_quality,
  );
  const longest = Math.max(...weighed.map((entry) => Math.min(entry.value, 2)), 1e-9);
  const goals = (Object.keys(weights.value) as Goal[]).filter((goal) => weights.value[goal]);
  return (
    <>
      <Table label="Candidates" class="candidates">
        <thead>
          <tr>
            <th scope="col">Model</th>
            <th scope="col" class="number">Quality</th>
            <th scope="col" class="number">Cost</th>
            <th scope="col" class="number">First token</th>
            <th scope="col" class="number">Whole</th>
            <th scope="col" class="number">Tokens</th>
            <th scope="col">Objective <span aria-hidden="true">↓</span></th>
            <th scope="col">Verdict</th>
            <th scope="col">
              <span class="visually-hidden">Leave out</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.map((c) => (
            <tr key={c.model} class={!isInfeasible.value && c.model === told.chosen ? "chosen" : ""}>
              <th scope="row">
                <ModelName model={c.model} />
              </th>
              <td class="number">
                {quality(c.predicted_quality)}
                <small> ±{((c.quality_interval[1] - c.quality_interval[0]) / 2).toFixed(2)}</small>
              </td>
              <td class="number">{usd(c.predicted_cost_usd)}</td>
              <td class="number">{ms(c.predicted_ttft_ms)}</td>
              <td class="number">{ms(c.predicted_latency_ms)}</td>
              <td class="number">{tokens(c.predicted_output_tokens)}</td>
              <td>
                <Objective entry={byModel.get(c.model)} longest={longest} />
              </td>
              <td class="verdict">
                <Verdict candidate={c} told={told} />
              </td>
              <td>
                <LeaveOut model={c.model} />
              </td>
            </tr>
          ))}
        </tbody>
      </Table>
      <p class="legend" aria-hidden="true">
        <span class="term loss" /> loss, 1 − quality
        {goals.map((goal) => (
          <span key={goal}>
            <span class={`term ${goal}`} /> λ · {GOAL_WORDS[goal][0].toLowerCase()}
          </span>
        ))}
      </p>
    </>
  );
}

/** The sum that ranks, as a bar of its terms. */
function Objective(props: { entry: Weighed | undefined; longest: number }) {
  const { entry } = props;
  if (!entry || !isForetold.value) return <span class="quiet">–</span>;
  const terms: [string, number][] = [["loss", entry.loss], ...Object.entries(entry.terms)];
  const words = terms.map(([name, value]) => `${name} ${value.toFixed(3)}`).join(" + ");
  const whole = Math.max(entry.value, 1e-9);
  const length = (Math.min(entry.value, 2) / props.longest) * 100;
  return (
    <span class="objective" title={`${words} = ${entry.value.toFixed(3)}`}>
      <span class="objective-bar" aria-hidden="true">
        <span style={{ width: `${length}%` }}>
          {terms.map(([name, value]) => (
            <span key={name} class={`term ${name}`} style={{ width: `${(value / whole) * 100}%` }} />
          ))}
        </span>
      </span>
      <span class="number">{entry.value < 10 ? entry.value.toFixed(3) : entry.value.toFixed(1)}</span>
      <span class="visually-hidden">{words}</span>
    </span>
  );
}

function Verdict({ candidate, told }: { candidate: Candidate; told: Decision }) {
  if (candidate.violations.length) {
    return (
      <>
        {candidate.violations.map((violation) => (
          <span key={violation.constraint} class="tag bad">{reasonOf(violation)}</span>
        ))}
      </>
    );
  }
  return (
    <>
      {candidate.model === told.chosen && <span class="tag good">chosen</span>}
      {candidate.on_pareto_front && <span class="tag">on the front</span>}
    </>
  );
}

const OTHER_REASONS: Record<string, string> = {
  backend: "no backend can be asked now",
  "models.allow": "not among the models allowed",
  "models.deny": "left out",
  context_tokens: "the prompt is too long for it",
  guarantee: "cannot keep the guarantee",
};

/** Why a candidate is ruled out, with what it would have and what is asked. */
export function reasonOf(violation: Violation): string {
  const { constraint, limit, actual } = violation;
  const scale = LIMIT_WORDS[constraint as keyof typeof LIMIT_WORDS];
  if (!scale) {
    const known = OTHER_REASONS[constraint] ?? constraint.replace(/^capabilities\.?/, "cannot: ");
    return limit !== null && actual !== null ? `${known} (${actual} of ${limit})` : known;
  }
  const asked = `${scale.name.toLowerCase()} ${scale.words(limit ?? 0)}`;
  return actual === null ? `${asked}, but unknown` : `${asked}, has ${scale.words(actual)}`;
}

function LeaveOut({ model }: { model: string }) {
  const isOut = leftOut.value.includes(model);
  return (
    <button
      type="button"
      class="small quiet"
      aria-pressed={isOut}
      aria-label={`Leave ${model} out`}
      title={isOut ? "let it be chosen again" : "leave it out"}
      onClick={() => toggleLeftOut(model)}
    >
      <span aria-hidden="true">{isOut ? "+" : "×"}</span>
    </button>
  );
}
