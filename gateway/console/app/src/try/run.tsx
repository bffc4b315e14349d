// Run the prompt where it would go, and beside it on another model.

import { batch, signal } from "@preact/signals";
import { send, messageOf } from "../shared/api";
import { ModelName } from "../shared/identity";
import { Panel } from "../shared/pieces";
import { session } from "../shared/session";
import { ms, tokens, usd } from "../shared/words";
import type { Decision } from "./decision";
import { decide, isInfeasible } from "./live";
import { rival } from "./plot";
import { chatBody, maxTokens, prompt } from "./settings";
import { NO_ANSWER, ask } from "./stream";
import type { Answer } from "./stream";

type Side = "chosen" | "beside";

const answers = {
  chosen: signal<Answer | null>(null),
  beside: signal<Answer | null>(null),
};
let running: AbortController | null = null;
const isRunning = signal(false);

/** Ask both sides at once. Whoever runs again ends what still ran. */
async function run(beside: string): Promise<void> {
  running?.abort();
  const mine = new AbortController();
  running = mine;
  batch(() => {
    isRunning.value = true;
    if (beside) rival.value = beside; // whoever is next in order later, it was this one
    answers.beside.value = null;
  });
  const limit = { max_tokens: maxTokens.value };
  const one = (side: Side, body: Record<string, unknown>) =>
    ask({ ...body, ...limit }, mine.signal, (answer) => {
      if (running === mine) answers[side].value = answer;
    });
  const asked = [one("chosen", chatBody("auto", true))];
  if (beside) asked.push(one("beside", chatBody(beside, false)));
  await Promise.all(asked);
  if (running !== mine) return;
  isRunning.value = false;
  // How long those models take is known now.
  void decide();
}

/** Who is asked beside the chosen model: the reader's choice, else who is next in order. */
function besideOf(told: Decision): string {
  if (rival.value === "none") return "";
  const known = told.candidates.some((c) => c.model === rival.value);
  if (known) return rival.value;
  return told.order.find((model) => model !== told.chosen) ?? "";
}

export function Run({ told }: { told: Decision }) {
  const beside = besideOf(told);
  const canRun = !isInfeasible.value && prompt.value.trim() !== "";
  return (
    <Panel
      title="Run it"
      aside={
        <form
          class="run-controls"
          onSubmit={(event) => {
            event.preventDefault();
            void run(beside);
          }}
        >
          <label>
            beside{" "}
            <select value={beside || "none"} onChange={(e) => (rival.value = e.currentTarget.value)}>
              <option value="none">nobody</option>
              {told.candidates.map((c) => (
                <option key={c.model}>{c.model}</option>
              ))}
            </select>
          </label>
          <label>
            at most{" "}
            <input
              type="number"
              min={1}
              max={8192}
              value={maxTokens.value}
              onChange={(e) => (maxTokens.value = Math.max(1, Number(e.currentTarget.value) || 1))}
            />{" "}
            tokens
          </label>
          {/* Of two keys, so that the click on one is never the other's. */}
          {isRunning.value ? (
            <button key="stop" type="button" onClick={() => running?.abort()}>
              Stop
            </button>
          ) : (
            <button key="run" type="submit" class="primary" disabled={!canRun}>
              Run
            </button>
          )}
        </form>
      }
    >
      <div class="lanes">
        <Lane side="chosen" title="As routed" expected={told.chosen} />
        {beside && <Lane side="beside" title="Beside it" expected={beside} />}
      </div>
      <p class="visually-hidden" role="status">
        {statusOf(answers.chosen.value)}
      </p>
    </Panel>
  );
}

function statusOf(answer: Answer | null): string {
  if (answer?.state === "done") return `${answer.model} has answered.`;
  return answer?.state === "failed" ? `The answer failed: ${answer.error}` : "";
}

function Lane(props: { side: Side; title: string; expected: string }) {
  const answer = answers[props.side].value;
  const shown = answer ?? NO_ANSWER;
  const model = shown.model || props.expected;
  const isLive = answer?.state === "waiting" || answer?.state === "streaming";
  return (
    <article class={`lane ${answer?.state ?? "idle"}`} aria-label={`${props.title}: ${model}`}>
      <header>
        <h3>{props.title}</h3>
        <ModelName model={model} strong />
      </header>
      <div class="answer" tabIndex={0} role="group" aria-label={`Answer of ${model}`} aria-busy={isLive}>
        {shown.text || <span class="quiet">{answer ? "…" : "Not run yet."}</span>}
        {isLive && <span class="caret" aria-hidden="true" />}
      </div>
      {shown.error && <p class="lane-error" role="alert">{shown.error}</p>}
      <dl class="lane-figures">
        <div>
          <dt>First token</dt>
          <dd>{ms(shown.ttftMs)}</dd>
        </div>
        <div>
          <dt>Whole</dt>
          <dd>{ms(shown.totalMs)}</dd>
        </div>
        <div>
          <dt>Tokens</dt>
          <dd>{tokens(shown.completionTokens)}</dd>
        </div>
        <div>
          <dt>Cost</dt>
          <dd>{usd(shown.costUsd)}</dd>
        </div>
      </dl>
      {shown.reason && <p class="lane-reason">{shown.reason}</p>}
      <Thumbs answer={answer} />
    </article>
  );
}

const given = signal<Record<string, string>>({});

function Thumbs({ answer }: { answer: Answer | null }) {
  const keeps = session.value?.keeps_feedback ?? false;
  const id = answer?.requestId ?? "";
  const verdict = given.value[id] ?? "";
  const score = async (value: number) => {
    const note = (text: string) => (given.value = { ...given.value, [id]: text });
    try {
      await send("v1/feedback", { request_id: id, score: value });
      note(value ? "good" : "bad");
    } catch (error) {
      note(messageOf(error));
    }
  };
  if (!keeps) {
    return (
      <p class="thumbs quiet">
        Answers can be scored where the configuration has a <code>decision_log</code>.
      </p>
    );
  }
  const isDone = answer?.state === "done";
  const isTold = verdict === "good" || verdict === "bad";
  return (
    <div class="thumbs" role="group" aria-label="Score this answer">
      <button type="button" disabled={!isDone} aria-pressed={verdict === "good"} onClick={() => score(1)}>
        <span aria-hidden="true">▲</span> Good
      </button>
      <button type="button" disabled={!isDone} aria-pressed={verdict === "bad"} onClick={() => score(0)}>
        <span aria-hidden="true">▼</span> Bad
      </button>
      <span class="quiet" role="status">{isTold ? "Noted with its decision." : verdict}</span>
    </div>
  );
}

