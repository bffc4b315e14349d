// The same request for a terminal and for a program.

import { signal } from "@preact/signals";
import { address } from "../shared/api";
import { CopyButton, Panel } from "../shared/pieces";
import { about, chatBody, maxTokens, routing } from "./settings";

const FORMS = ["curl", "Python", "Headers"] as const;
type Form = (typeof FORMS)[number];

const form = signal<Form>("curl");

export function Code() {
  const text = TEXTS[form.value]();
  return (
    <Panel title="The same request" aside={<CopyButton text={() => TEXTS[form.value]()} />}>
      <div class="tabs" role="tablist" aria-label="Form of the request">
        {FORMS.map((name) => (
          <button
            key={name}
            type="button"
            role="tab"
            id={`form-${name}`}
            aria-selected={form.value === name}
            aria-controls="form-text"
            tabIndex={form.value === name ? 0 : -1}
            onClick={() => (form.value = name)}
            onKeyDown={(event) => {
              const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
              if (!step) return;
              form.value = FORMS[(FORMS.indexOf(name) + step + FORMS.length) % FORMS.length] as Form;
              document.getElementById(`form-${form.value}`)?.focus();
            }}
          >
            {name}
          </button>
        ))}
      </div>
      <pre id="form-text" class="code" role="tabpanel" tabIndex={0} aria-labelledby={`form-${form.value}`}>
        {text}
      </pre>
    </Panel>
  );
}

const TEXTS: Record<Form, () => string> = { curl, Python: python, Headers: headers };

function wantsKey(): boolean {
  return about.value?.auth === "keys";
}

function curl(): string {
  const body = { ...chatBody("auto", true), max_tokens: maxTokens.value };
  return [
    `curl ${address("v1/chat/completions")}`,
    "-H 'content-type: application/json'",
    ...(wantsKey() ? ['-H "authorization: Bearer $THALAMUS_KEY"'] : []),
    `-d '${JSON.stringify(body, null, 2).replaceAll("'", "'\\''")}'`,
  ].join(" \\\n  ");
}

function python(): string {
  const { messages, model } = chatBody("auto", true);
  const extra = Object.keys(routing.value).length
    ? [`    extra_body={"routing": ${literal(routing.value, 1)}},`]
    : [];
  return [
    ...(wantsKey() ? ["import os", ""] : []),
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url="${address("v1")}", api_key=${wantsKey() ? 'os.environ["THALAMUS_KEY"]' : '"unused"'})`,
    "answer = client.chat.completions.create(",
    `    model=${literal(model, 1)},`,
    `    messages=${literal(messages, 1)},`,
    `    max_tokens=${maxTokens.value},`,
    ...extra,
    ")",
    "print(answer.model, answer.choices[0].message.content)",
  ].join("\n");
}

/** A value as Python writes it; what this page holds is texts, numbers, lists and objects. */
function literal(value: unknown, depth: number): string {
  const inner = "    ".repeat(depth + 1);
  const outer = "    ".repeat(depth);
  if (Array.isArray(value)) return `[${value.map((item) => literal(item, depth)).join(", ")}]`;
  if (typeof value === "object" && value !== null) {
    const lines = Object.entries(value).map(
      ([name, item]) => `${inner}${JSON.stringify(name)}: ${literal(item, depth + 1)},`,
    );
    return `{\n${lines.join("\n")}\n${outer}}`;
  }
  return JSON.stringify(value);
}

const HEADER_NAMES: Record<string, string> = {
  objective: "X-Routing-Objective",
  max_cost_usd: "X-Routing-Max-Cost-USD",
  max_ttft_ms: "X-Routing-Max-TTFT-MS",
  max_latency_ms: "X-Routing-Max-Latency-MS",
  min_quality: "X-Routing-Min-Quality",
  router: "X-Routing-Router",
};

function headers(): string {
  const lines = Object.entries(routing.value).map(([name, value]) => {
    if (name === "weights") {
      const pairs = Object.entries(value as object).map(([goal, weight]) => `${goal}=${weight}`);
      return `X-Routing-Weights: ${pairs.join(",")}`;
    }
    if (name === "models") {
      return `X-Routing-Models-Deny: ${(value as { deny: string[] }).deny.join(",")}`;
    }
    return `${HEADER_NAMES[name]}: ${value}`;
  });
  return lines.length
    ? lines.join("\n")
    : "Nothing is set: model \"auto\" alone says it all.";
}
