// Models, what is declared of them, and how the backends that serve them are.

import { useState } from "preact/hooks";
import { messageOf, send } from "../shared/api";
import { ModelName, meetModels } from "../shared/identity";
import { Empty, Notice, Panel, usePolled } from "../shared/pieces";
import { ms, share, tokens, trim } from "../shared/words";
import { about } from "../try/settings";

interface Backend {
  backend: string;
  served_model: string;
  usable: boolean;
  up: boolean | null;
  breaker_open: boolean;
  drained: boolean;
  inflight: number;
  ttft_ms: number | null;
  token_ms: number | null;
  running: number | null;
  waiting: number | null;
  kv_usage: number | null;
}

interface Model {
  model: string;
  price_usd_per_mtok: { input: number; output: number; cached_input: number | null } | null;
  gpu_usd_per_hour: number | null;
  context_tokens: number | null;
  parameters_b: number | null;
  active_parameters_b: number | null;
  released: string | null;
  security_level: number | null;
  readability: number | null;
  capabilities: string[] | null;
  endpoints: string[];
  backends?: Backend[];
}

export function ModelsView() {
  const isAdmin = about.value?.place === "admin";
  const path = isAdmin ? "admin/models" : "console/api/models";
  const { data, error, refresh } = usePolled<{ models: Model[] }>(path, 2000);
  if (error) return <Notice tone="bad">{error}</Notice>;
  if (!data) return <Empty>Asking…</Empty>;
  meetModels(data.models.map((m) => m.model));
  const hasBackends = data.models.some((m) => m.backends);
  return (
    <div class="stack">
      {!hasBackends && (
        <Notice tone="quiet">
          These are the models that your key permits. How their backends are is shown on the admin
          port.
        </Notice>
      )}
      <div class="cards">
        {data.models.map((model) => (
          <Panel key={model.model} title={model.model} class="model-card">
            <Declared model={model} />
            {model.backends && (
              <ul class="backends" aria-label={`Backends of ${model.model}`}>
                {model.backends.map((backend) => (
                  <li key={backend.backend}>
                    <BackendLine backend={backend} isAdmin={isAdmin} changed={refresh} />
                  </li>
                ))}
              </ul>
            )}
          </Panel>
        ))}
      </div>
    </div>
  );
}

function Declared({ model }: { model: Model }) {
  const facts: [string, string | null][] = [
    ["Price", priceOf(model)],
    ["Context", model.context_tokens === null ? null : `${tokens(model.context_tokens)} tokens`],
    ["Size", sizeOf(model)],
    ["Released", model.released],
    ["Security level", model.security_level === null ? null : String(model.security_level)],
    ["Readability", model.readability === null ? null : model.readability.toFixed(2)],
    ["Can", model.capabilities === null ? "everything asked" : model.capabilities.join(", ") || "text"],
    ["Speaks", model.endpoints.join(", ")],
  ];
  return (
    <>
      <div class="model-mark">
        <ModelName model={model.model} />
      </div>
      <dl class="facts">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value ?? <span class="quiet">not declared</span>}</dd>
          </div>
        ))}
      </dl>
    </>
  );
}

function priceOf(model: Model): string | null {
  const price = model.price_usd_per_mtok;
  if (model.gpu_usd_per_hour !== null) return `$${trim(model.gpu_usd_per_hour)} an hour of hardware`;
  return price && `$${trim(price.input)} in, $${trim(price.output)} out, a million tokens`;
}

function sizeOf(model: Model): string | null {
  if (model.parameters_b === null) return null;
  const active = model.active_parameters_b;
  return `${trim(model.parameters_b)} B${active === null ? "" : `, ${trim(active)} B active`}`;
}

/** What is the matter with a backend, in a word. */
function stateOf(backend: Backend): [string, string] {
  if (backend.drained) return ["drained", "warn"];
  if (backend.up === false) return ["down", "bad"];
  if (backend.breaker_open) return [backend.usable ? "on trial" : "breaker open", "bad"];
  if (!backend.usable) return ["not usable", "bad"];
  return backend.up === null ? ["not asked yet", ""] : ["up", "good"];
}

function BackendLine(props: { backend: Backend; isAdmin: boolean; changed: () => Promise<void> }) {
  const { backend } = props;
  const [trouble, setTrouble] = useState("");
  const [word, tone] = stateOf(backend);
  const change = async () => {
    const action = backend.drained ? "undrain" : "drain";
    try {
      await send(`admin/backends/${encodeURIComponent(backend.backend)}/${action}`);
      setTrouble("");
      await props.changed();
    } catch (error) {
      setTrouble(messageOf(error));
    }
  };
  const load: [string, string | null][] = [
    ["in flight", String(backend.inflight)],
    ["first token", backend.ttft_ms === null ? null : ms(backend.ttft_ms)],
    ["a token", backend.token_ms === null ? null : ms(backend.token_ms)],
    ["running", backend.running === null ? null : String(backend.running)],
    ["waiting", backend.waiting === null ? null : String(backend.waiting)],
    ["KV cache", backend.kv_usage === null ? null : share(backend.kv_usage)],
  ];
  return (
    <div class="backend">
      <div class="backend-head">
        <span class={`tag dot ${tone}`}>{word}</span>
        <span class="mono">{backend.backend}</span>
        {props.isAdmin && (
          <button type="button" class="small" onClick={change}>
            {backend.drained ? "Undrain" : "Drain"}
          </button>
        )}
      </div>
      <dl class="load">
        {load
          .filter(([, value]) => value !== null)
          .map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ))}
      </dl>
      {trouble && <Notice tone="bad">{trouble}</Notice>}
    </div>
  );
}
