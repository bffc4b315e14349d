// The console talks to the same public routes as any client; only the list of recent requests is its own.

const byId = (id) => document.getElementById(id);
const number = (value, digits) => (value === null ? "–" : value.toFixed(digits));

function row(cells, className = "") {
  const tr = document.createElement("tr");
  tr.className = className;
  for (const cell of cells) {
    const td = document.createElement("td");
    td.append(cell);
    tr.append(td);
  }
  return tr;
}

function body() {
  return { model: byId("model").value, messages: [{ role: "user", content: byId("prompt").value }] };
}

// Where the gateway asks for keys: kept for this tab alone.
const KEY = "thalamus-key";

async function call(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key && { authorization: `Bearer ${key}` }) };
  const response = await fetch(path, { ...options, headers });
  byId("key-row").hidden = byId("key-row").hidden && response.status !== 401;
  return response;
}

async function post(path, content) {
  const response = await call(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(content),
  });
  if (!response.ok) throw new Error((await response.json()).error.message);
  return response;
}

function qualityCell(candidate, best) {
  const cell = document.createDocumentFragment();
  const bar = document.createElement("span");
  bar.className = "bar";
  bar.style.width = `${(6 * candidate.predicted_quality) / best}rem`;
  cell.append(bar, candidate.predicted_quality.toFixed(3));
  return cell;
}

function verdictOf(candidate, chosen) {
  if (candidate.model === chosen) return "chosen";
  if (candidate.violated.length) return `breaks ${candidate.violated.join(", ")}`;
  return candidate.on_pareto_front ? "on the front" : "";
}

async function decide() {
  const decision = await (await post("../v1/route", body())).json();
  const ranked = [...decision.candidates].sort((a, b) => b.predicted_quality - a.predicted_quality);
  const best = Math.max(ranked[0].predicted_quality, 1e-9);
  byId("verdict").textContent = `${decision.chosen}: ${decision.explanation} (decided in ${decision.overhead_ms} ms)`;
  byId("candidates").replaceChildren(
    ...ranked.map((c) =>
      row(
        [
          c.model,
          qualityCell(c, best),
          number(c.predicted_cost_usd, 6),
          c.predicted_ttft_ms === null ? "–" : `${c.predicted_ttft_ms.toFixed(0)} ms`,
          verdictOf(c, decision.chosen),
        ],
        c.model === decision.chosen ? "chosen" : "",
      ),
    ),
  );
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.slice("data: ".length);
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

async function answer() {
  const output = byId("answer");
  output.textContent = "";
  const response = await post("../v1/chat/completions", { ...body(), stream: true, max_tokens: 200 });
  byId("served").textContent = `Served by ${response.headers.get("x-routing-model")}`;
  for await (const event of events(response)) {
    if (event.error) throw new Error(event.error.message);
    output.textContent += event.choices[0]?.delta?.content ?? "";
  }
}

async function showRecent() {
  const response = await call("api/recent");
  if (!response.ok) return;
  const rows = await response.json();
  byId("recent").replaceChildren(
    ...rows.map((r) =>
      row([
        new Date(r.at_s * 1000).toLocaleTimeString(),
        r.model,
        r.profile,
        r.outcome,
        String(r.completion_tokens),
        `${r.duration_ms.toFixed(0)} ms`,
      ]),
    ),
  );
}

async function attempt(...steps) {
  byId("send").disabled = true;
  try {
    for (const step of steps) await step();
  } catch (error) {
    byId("verdict").textContent = error.message;
  } finally {
    byId("send").disabled = false;
  }
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(decide, answer, showRecent);
});
byId("decide").addEventListener("click", () => attempt(decide));

async function showModels() {
  const response = await call("../v1/models");
  if (!response.ok) throw new Error((await response.json()).error.message);
  const models = (await response.json()).data;
  byId("model").replaceChildren(...models.map((m) => new Option(m.id)));
}

byId("key").addEventListener("change", () => {
  sessionStorage.setItem(KEY, byId("key").value.trim());
  byId("verdict").textContent = "Nothing asked yet.";
  attempt(showModels, showRecent);
});
attempt(showModels, showRecent);
