// The latest requests one by one; each opens to all that is known of it.

import { signal } from "@preact/signals";
import { ModelName } from "../shared/identity";
import { CopyButton, Empty, Panel, Table } from "../shared/pieces";
import { clock, count, ms, quality, tokens, usd } from "../shared/words";
import type { Traffic } from "./view";

export interface Row {
  key?: string;
  request_id: string;
  decision_id: string;
  trace_id: string | null;
  at_s: number;
  model: string;
  chosen_model: string;
  backend: string;
  profile: string;
  reason: string;
  outcome: string;
  error_code: string | null;
  attempts: number;
  predicted_quality: number;
  prompt_tokens: number;
  completion_tokens: number;
  is_estimated: boolean;
  cost_usd: number | null;
  ttft_ms: number | null;
  duration_ms: number;
}

export const isPaused = signal(false);
const onlyModel = signal("");
const opened = signal("");

export function Requests({ told, isAdmin }: { told: Traffic; isAdmin: boolean }) {
  const rows = told.requests.filter((row) => !onlyModel.value || row.model === onlyModel.value);
  return (
    <Panel
      title="Recent requests"
      aside={
        <>
          <label class="inline">
            of{" "}
            <select value={onlyModel.value} onChange={(e) => (onlyModel.value = e.currentTarget.value)}>
              <option value="">all models</option>
              {told.models.map((m) => (
                <option key={m.model}>{m.model}</option>
              ))}
            </select>
          </label>
          <button
            type="button"
            class="small"
            aria-pressed={isPaused.value}
            onClick={() => (isPaused.value = !isPaused.value)}
          >
            {isPaused.value ? "Go on" : "Pause"}
          </button>
        </>
      }
    >
      {rows.length ? (
        <Table label="Recent requests" class="tall">
          <thead>
            <tr>
              <th scope="col">Time</th>
              {isAdmin && <th scope="col">Key</th>}
              <th scope="col">Model</th>
              <th scope="col">Outcome</th>
              <th scope="col" class="number">First token</th>
              <th scope="col" class="number">Whole</th>
              <th scope="col" class="number">Tokens</th>
              <th scope="col" class="number">Cost</th>
              <th scope="col">Why</th>
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <RequestRow key={row.request_id} row={row} isAdmin={isAdmin} />
            ))}
          </tbody>
        </Table>
      ) : (
        <Empty>Nothing was asked yet. Prompts are never kept, only what became of them.</Empty>
      )}
    </Panel>
  );
}

function RequestRow({ row, isAdmin }: { row: Row; isAdmin: boolean }) {
  const isOpen = opened.value === row.request_id;
  const fell = row.model !== row.chosen_model;
  return (
    <>
      <tr class={isOpen ? "open" : ""}>
        <td>
          <button
            type="button"
            class="row-opener"
            aria-expanded={isOpen}
            aria-label={`Request at ${clock(row.at_s)}, ${row.model}`}
            onClick={() => (opened.value = isOpen ? "" : row.request_id)}
          >
            {clock(row.at_s)}
          </button>
        </td>
        {isAdmin && <td class="mono">{row.key}</td>}
        <th scope="row">
          <ModelName model={row.model} />
        </th>
        <td>
          <span class={`tag ${row.outcome === "ok" ? "good" : "bad"}`}>
            {row.error_code ?? row.outcome}
          </span>
        </td>
        <td class="number">{ms(row.ttft_ms)}</td>
        <td class="number">{ms(row.duration_ms)}</td>
        <td class="number">
          {row.is_estimated ? "≈ " : ""}
          {tokens(row.completion_tokens)}
        </td>
        <td class="number">{usd(row.cost_usd)}</td>
        <td class="reason">
          {row.profile === row.reason ? row.reason : `${row.profile}: ${row.reason}`}
          {fell && `; ${row.chosen_model} failed, ${count(row.attempts, "attempt")}`}
        </td>
      </tr>
      {isOpen && (
        <tr class="detail">
          <td colSpan={isAdmin ? 9 : 8}>
            <Detail row={row} />
          </td>
        </tr>
      )}
    </>
  );
}

function Detail({ row }: { row: Row }) {
  const ids: [string, string | null][] = [
    ["Request", row.request_id],
    ["Decision", row.decision_id],
    ["Trace", row.trace_id],
  ];
  const facts: [string, string][] = [
    ["Backend", row.backend || "none answered"],
    ["Attempts", String(row.attempts)],
    ["Predicted quality", quality(row.predicted_quality)],
    ["Tokens read", tokens(row.prompt_tokens)],
    ["Tokens written", tokens(row.completion_tokens)],
  ];
  return (
    <dl class="facts">
      {ids.map(([name, id]) =>
        id === null ? null : (
          <div key={name}>
            <dt>{name}</dt>
            <dd>
              <span class="mono">{id}</span> <CopyButton text={() => id} />
            </dd>
          </div>
        ),
      )}
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
