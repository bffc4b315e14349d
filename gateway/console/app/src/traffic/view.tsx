// What was asked lately, where it went, and what that saved.

import { useEffect } from "preact/hooks";
import { ModelName, colourOf, meetModels } from "../shared/identity";
import { Empty, Figure, Notice, Panel, Table, usePolled } from "../shared/pieces";
import { about } from "../try/settings";
import { Pulse } from "./pulse";
import { Requests, isPaused } from "./requests";
import type { Row } from "./requests";
import { ago, count, ms, quality, share, tokens, usd } from "../shared/words";

interface Interval {
  value: number;
  low: number | null;
  high: number | null;
}

interface Percentiles {
  p50: number;
  p95: number;
}

export interface Traffic {
  kept: number;
  since_s: number | null;
  totals: {
    requests: number;
    outcomes: Record<"ok" | "error" | "cancelled", number>;
    fallbacks: number;
    prompt_tokens: number;
    completion_tokens: number;
    cost_usd: number | null;
    ttft_ms: Percentiles | null;
    duration_ms: Percentiles | null;
  };
  models: {
    model: string;
    requests: number;
    share: number;
    predicted_quality: number;
    cost_usd: number | null;
    ttft_ms: Percentiles | null;
  }[];
  baselines: { baseline: string; compared: number; cost_usd: Interval | null; quality: Interval | null }[];
  requests: Row[];
}

const REFRESH_MS = 2000;

export function TrafficView() {
  const isAdmin = about.value?.place === "admin";
  const path = isAdmin ? "admin/traffic" : "console/api/traffic";
  const { data, error } = usePolled<Traffic>(path, isPaused.value ? null : REFRESH_MS);
  useEffect(() => meetModels(data?.models.map((m) => m.model) ?? []), [data]);
  if (error) return <Notice tone="bad">{error}</Notice>;
  if (!data) return <Empty>Asking…</Empty>;
  return (
    <div class="stack">
      <Totals told={data} />
      {data.totals.requests > 0 && (
        <div class="pair">
          <Shares told={data} />
          <Savings told={data} />
        </div>
      )}
      {data.requests.length > 1 && <Pulse rows={data.requests} />}
      <Requests told={data} isAdmin={isAdmin} />
    </div>
  );
}

function Totals({ told }: { told: Traffic }) {
  const { totals } = told;
  const since = told.since_s === null ? null : Date.now() / 1000 - told.since_s;
  const bad = totals.outcomes.error + totals.outcomes.cancelled;
  return (
    <dl class="figures">
      <Figure
        label="Requests"
        value={totals.requests.toLocaleString("en")}
        note={since === null ? "none yet" : `in ${ago(since)}, the last ${told.kept} are kept`}
      />
      <Figure
        label="Answered"
        value={totals.requests ? share(totals.outcomes.ok / totals.requests) : "–"}
        note={
          bad
            ? `${count(totals.outcomes.error, "error")}, ${totals.outcomes.cancelled} cancelled`
            : `${count(totals.fallbacks, "fallback")}`
        }
      />
      <Figure
        label="First token"
        value={ms(totals.ttft_ms?.p50)}
        note={totals.ttft_ms ? `median; 95 % within ${ms(totals.ttft_ms.p95)}` : "of streams"}
      />
      <Figure
        label="Tokens"
        value={tokens(totals.completion_tokens)}
        note={`written, ${tokens(totals.prompt_tokens)} read`}
      />
      <Figure label="Cost" value={usd(totals.cost_usd)} note="of the answers above" />
    </dl>
  );
}

function Shares({ told }: { told: Traffic }) {
  return (
    <Panel title="Who answered">
      <div class="share-bar" aria-hidden="true">
        {told.models.map((m) => (
          <span key={m.model} style={{ width: `${m.share * 100}%`, background: colourOf(m.model) }} />
        ))}
      </div>
      <Table label="Share of each model">
        <thead>
          <tr>
            <th scope="col">Model</th>
            <th scope="col" class="number">Share</th>
            <th scope="col" class="number">Requests</th>
            <th scope="col" class="number">Mean quality</th>
            <th scope="col" class="number">Cost</th>
          </tr>
        </thead>
        <tbody>
          {told.models.map((m) => (
            <tr key={m.model}>
              <th scope="row">
                <ModelName model={m.model} />
              </th>
              <td class="number">{share(m.share)}</td>
              <td class="number">{m.requests}</td>
              <td class="number">{quality(m.predicted_quality)}</td>
              <td class="number">{usd(m.cost_usd)}</td>
            </tr>
          ))}
        </tbody>
      </Table>
    </Panel>
  );
}

const BASELINE_WORDS: Record<string, string> = {
  always_best: "always the best model",
  always_cheapest: "always the cheapest",
  random: "a model at random",
};

function Savings({ told }: { told: Traffic }) {
  const compared = told.baselines[0]?.compared ?? 0;
  return (
    <Panel title="What routing did">
      {compared ? (
        <>
          <Table label="Savings against baselines">
            <thead>
              <tr>
                <th scope="col">Against</th>
                <th scope="col" class="number">Saved</th>
                <th scope="col" class="number">Quality, per request</th>
              </tr>
            </thead>
            <tbody>
              {told.baselines.map((b) => (
                <tr key={b.baseline}>
                  <th scope="row">{BASELINE_WORDS[b.baseline] ?? b.baseline}</th>
                  <td class="number">
                    <Spread of={b.cost_usd} words={usd} sign={1} />
                  </td>
                  <td class="number">
                    <Spread of={b.quality} words={signed} sign={-1} />
                  </td>
                </tr>
              ))}
            </tbody>
          </Table>
          <p class="hint">
            Predictions against predictions, for {count(compared, "request")} with a choice. In
            brackets the 95 % interval; it tells how much requests vary, not how wrong predictions
            are.
          </p>
        </>
      ) : (
        <Empty>No request had more than one model to choose from yet.</Empty>
      )}
    </Panel>
  );
}

function signed(value: number): string {
  const text = Math.abs(value).toFixed(3);
  if (Number(text) === 0) return "0";
  return `${value < 0 ? "−" : "+"}${text}`;
}

/** The baseline's difference to us; with sign −1 as ours to it. */
function Spread(props: { of: Interval | null; words: (value: number) => string; sign: 1 | -1 }) {
  if (!props.of) return <>–</>;
  const ends = [props.of.low, props.of.high].filter((end) => end !== null);
  const turned = ends.map((end) => end * props.sign).sort((a, b) => a - b);
  const isEven = turned.length === 2 && turned[0] === turned[1];
  return (
    <>
      {props.words(props.of.value * props.sign)}
      {turned.length === 2 && !isEven && <small> [{turned.map(props.words).join(", ")}]</small>}
    </>
  );
}
