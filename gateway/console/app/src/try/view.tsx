// Try a prompt: see where it would go and why, move the choice, then run it.

import { useEffect } from "preact/hooks";
import { ModelName } from "../shared/identity";
import { Notice, Panel } from "../shared/pieces";
import { session } from "../shared/session";
import { ms, quality, usd } from "../shared/words";
import { AXES, tellingAxis } from "./axes";
import type { AxisName } from "./axes";
import { Candidates, reasonOf } from "./candidates";
import { Code } from "./code";
import type { Decision, LimitName } from "./decision";
import { LIMITS } from "./decision";
import { decision, follow, isAsking, isInfeasible, trouble } from "./live";
import { Pilots } from "./pilots";
import { Plot, chosenAxis } from "./plot";
import { Run } from "./run";
import * as settings from "./settings";
import { LIMIT_WORDS, LimitSlider, WeightSlider } from "./sliders";

export function TryView() {
  useEffect(follow, []);
  const told = decision.value;
  return (
    <div class="try">
      <div class="try-ask">
        <Prompt />
        <Controls />
      </div>
      <div class="try-see">
        <Verdict />
        <Panel title="Quality against cost" class="plot-panel" aside={<AxisChoice />}>
          <Plot />
          <PlotLegend />
        </Panel>
        {told && (
          <Panel title="Candidates">
            <Candidates told={told} />
          </Panel>
        )}
        {told && <Run told={told} />}
        {told && <Pilots told={told} />}
        <Code />
      </div>
    </div>
  );
}

function Prompt() {
  return (
    <Panel title="Prompt">
      <textarea
        aria-label="Prompt"
        rows={5}
        value={settings.prompt.value}
        onInput={(event) => (settings.prompt.value = event.currentTarget.value)}
      />
      <div class="chips" role="group" aria-label="Examples">
        {settings.EXAMPLES.map(([name, text]) => (
          <button key={name} type="button" class="chip" onClick={() => (settings.prompt.value = text)}>
            {name}
          </button>
        ))}
      </div>
    </Panel>
  );
}

function Controls() {
  const about = settings.about.value;
  const isNarrow = matchMedia("(max-width: 60rem)").matches;
  return (
    <section class="panel controls" aria-label="Goals and limits">
      <details open={!isNarrow}>
        <summary>
          <h2>Goals and limits</h2>
        </summary>
        <div class="selects">
          <label>
            <span>Profile</span>
            <select
              value={settings.profile.value}
              onChange={(event) => settings.setProfile(event.currentTarget.value)}
            >
              <option value="">auto</option>
              {Object.keys(about?.profiles ?? {}).map((name) => (
                <option key={name} value={name}>{`auto:${name}`}</option>
              ))}
            </select>
          </label>
          <label>
            <span>Router</span>
            <select
              value={settings.router.value}
              onChange={(event) => (settings.router.value = event.currentTarget.value)}
            >
              <option value="">default</option>
              {(session.value?.routers ?? []).map((name) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          </label>
          <button
            type="button"
            class="small"
            disabled={!settings.isChanged.value}
            onClick={settings.reset}
          >
            Reset
          </button>
        </div>
        <h3 id="goals">What else counts besides quality</h3>
        <div role="group" aria-labelledby="goals">
          {about?.goals.map((goal) => <WeightSlider key={goal} goal={goal} />)}
        </div>
        <h3 id="limits">What must not be broken</h3>
        <div role="group" aria-labelledby="limits">
          {LIMITS.map((limit) => (
            <LimitSlider key={limit} limit={limit} />
          ))}
        </div>
        <p class="hint">
          The strip under a slider is coloured by the model that would be chosen there.
        </p>
      </details>
    </section>
  );
}

function Verdict() {
  const told = decision.value;
  const refused = isInfeasible.value;
  return (
    <section class={`verdict-panel ${isAsking.value ? "asking" : ""}`} aria-label="Decision">
      {trouble.value && <Notice tone="bad">{trouble.value}</Notice>}
      {!told && !trouble.value && <p class="empty">Type a prompt to see where it would go.</p>}
      {told && refused && <Infeasible told={told} />}
      {told && !refused && <Chosen told={told} />}
    </section>
  );
}

function Chosen({ told }: { told: Decision }) {
  const chosen = told.candidates.find((candidate) => candidate.model === told.chosen);
  return (
    <>
      <p class="eyebrow">This prompt would go to</p>
      <p class="chosen-name" role="status">
        <ModelName model={told.chosen} />
      </p>
      <p class="explanation">{told.explanation}</p>
      <dl class="chosen-figures">
        <div>
          <dt>Predicted quality</dt>
          <dd>{quality(chosen?.predicted_quality)}</dd>
        </div>
        <div>
          <dt>Predicted cost</dt>
          <dd>{usd(chosen?.predicted_cost_usd)}</dd>
        </div>
        <div>
          <dt>Predicted time</dt>
          <dd>{ms(chosen?.predicted_latency_ms)}</dd>
        </div>
        <div>
          <dt>Decided in</dt>
          <dd>{ms(told.overhead_ms)}</dd>
        </div>
      </dl>
      {told.warnings.map((warning) => (
        <Notice key={warning} tone="warn">{warning}</Notice>
      ))}
    </>
  );
}

function Infeasible({ told }: { told: Decision }) {
  const nearest = told.candidates.find((candidate) => candidate.model === told.chosen);
  const broken = nearest?.violations ?? [];
  const looser = broken.flatMap(({ constraint, actual }): [LimitName, number][] => {
    const limit = LIMITS.find((name) => name === constraint);
    return limit && actual !== null ? [[limit, loosened(limit, actual)]] : [];
  });
  const loosen = () => {
    for (const [limit, value] of looser) settings.setLimit(limit, value);
  };
  return (
    <>
      <p class="eyebrow">This prompt would go to</p>
      <p class="chosen-name nobody" role="status">
        nobody
      </p>
      <p class="explanation">
        No model keeps every limit. {told.chosen} comes nearest: {broken.map(reasonOf).join("; ")}.
      </p>
      {looser.length > 0 && looser.length === broken.length && (
        <button type="button" onClick={loosen}>
          {looser
            .map(([limit, value]) => `${LIMIT_WORDS[limit].name} ${LIMIT_WORDS[limit].words(value)}`)
            .join(", ")}
        </button>
      )}
    </>
  );
}

/** A limit that this value keeps, rounded to the side that is feasible. */
function loosened(limit: LimitName, nearest: number): number {
  if (limit === "min_quality") return Math.floor(nearest * 1000) / 1000;
  const unit = 10 ** (Math.floor(Math.log10(nearest || 1e-9)) - 2);
  return Number((Math.ceil(nearest / unit) * unit).toPrecision(3));
}

function AxisChoice() {
  const candidates = decision.value?.candidates ?? [];
  return (
    <label class="inline">
      against{" "}
      <select
        value={chosenAxis.value || tellingAxis(candidates)}
        onChange={(event) => (chosenAxis.value = event.currentTarget.value as AxisName)}
      >
        {(Object.keys(AXES) as AxisName[]).map((name) => (
          <option key={name} value={name}>{AXES[name].name.replace("Predicted ", "")}</option>
        ))}
      </select>
    </label>
  );
}

function PlotLegend() {
  return (
    <ul class="plot-legend">
      <li><span class="key-front" aria-hidden="true" /> Pareto front</li>
      <li><span class="key-equal" aria-hidden="true" /> as good as the chosen one, by the weights</li>
      <li><span class="key-whisker" aria-hidden="true" /> interval of the prediction</li>
      <li><span class="key-out" aria-hidden="true" /> ruled out by a limit</li>
    </ul>
  );
}
