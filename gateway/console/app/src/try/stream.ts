// One streamed answer: what came of it so far, and what it cost.

import { ApiError, call } from "../shared/api";

export interface Answer {
  state: "waiting" | "streaming" | "done" | "failed" | "stopped";
  text: string;
  error: string;
  model: string;
  requestId: string;
  reason: string;
  attempts: string;
  /** As this browser saw them, from the moment it asked. */
  ttftMs: number | null;
  totalMs: number | null;
  promptTokens: number | null;
  completionTokens: number | null;
  costUsd: number | null;
}

export const NO_ANSWER: Answer = {
  state: "waiting",
  text: "",
  error: "",
  model: "",
  requestId: "",
  reason: "",
  attempts: "",
  ttftMs: null,
  totalMs: null,
  promptTokens: null,
  completionTokens: null,
  costUsd: null,
};

interface Event {
  error?: { message: string };
  model?: string;
  choices?: { delta?: { content?: string | null; reasoning_content?: string | null } }[];
  usage?: { prompt_tokens: number; completion_tokens: number; cost?: number | null } | null;
}

/** Ask for a stream and tell what has come after every piece of it. */
export async function ask(
  body: Record<string, unknown>,
  leaving: AbortSignal,
  tell: (answer: Answer) => void,
): Promise<void> {
  const beganMs = performance.now();
  let answer = NO_ANSWER;
  const now = (change: Partial<Answer>) => {
    answer = { ...answer, ...change };
    tell(answer);
  };
  now({});
  try {
    const response = await call("v1/chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
      signal: leaving,
    });
    const header = (name: string) => response.headers.get(name) ?? "";
    now({
      state: "streaming",
      model: header("x-routing-model"),
      requestId: header("x-request-id"),
      reason: header("x-routing-reason"),
      attempts: header("x-routing-attempts"),
    });
    for await (const event of events(response)) {
      if (event.error) throw new ApiError(0, null, event.error.message);
      const delta = event.choices?.[0]?.delta;
      const piece = delta?.content ?? delta?.reasoning_content ?? "";
      if (piece) now({ text: answer.text + piece, ttftMs: answer.ttftMs ?? performance.now() - beganMs });
      if (event.usage) {
        now({
          promptTokens: event.usage.prompt_tokens,
          completionTokens: event.usage.completion_tokens,
          costUsd: event.usage.cost ?? null,
        });
      }
    }
    now({ state: "done", totalMs: performance.now() - beganMs });
  } catch (error) {
    const totalMs = performance.now() - beganMs;
    if (leaving.aborted) now({ state: "stopped", totalMs });
    else now({ state: "failed", error: (error as Error).message, totalMs });
  }
}

async function* events(response: Response): AsyncGenerator<Event> {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      for (const line of block.split("\n")) {
        if (!line.startsWith("data:")) continue; // a heartbeat
        const data = line.slice("data:".length).trim();
        if (data !== "[DONE]") yield JSON.parse(data);
      }
    }
  }
}
