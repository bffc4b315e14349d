// API keys: who has one, what it permits; make and revoke. On the admin port alone.

import { useState } from "preact/hooks";
import { messageOf, send } from "../shared/api";
import { CopyButton, Empty, Notice, Panel, Sure, Table, usePolled } from "../shared/pieces";

interface Key {
  id: string;
  name: string;
  state: "active" | "revoked" | "expired";
  created: string;
  expires: string | null;
  policy: Record<string, unknown>;
}

export function KeysView() {
  const { data, error, refresh } = usePolled<{ keys: Key[] }>("admin/keys", null);
  if (error) return <Notice tone="quiet">{error}</Notice>;
  if (!data) return <Empty>Asking…</Empty>;
  return (
    <div class="stack">
      <NewKey made={refresh} />
      <Panel title="Keys">
        {data.keys.length ? (
          <Table label="Keys">
            <thead>
              <tr>
                <th scope="col">Name</th>
                <th scope="col">Id</th>
                <th scope="col">State</th>
                <th scope="col">Made</th>
                <th scope="col">Expires</th>
                <th scope="col">Policy</th>
                <th scope="col">
                  <span class="visually-hidden">Revoke</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {data.keys.map((key) => (
                <tr key={key.id}>
                  <th scope="row">{key.name}</th>
                  <td class="mono">{key.id}</td>
                  <td>
                    <span class={`tag ${key.state === "active" ? "good" : ""}`}>{key.state}</span>
                  </td>
                  <td class="number">{key.created}</td>
                  <td class="number">{key.expires ?? "never"}</td>
                  <td class="mono reason">{wordsOf(key.policy)}</td>
                  <td>{key.state === "active" && <Revoke of={key} done={refresh} />}</td>
                </tr>
              ))}
            </tbody>
          </Table>
        ) : (
          <Empty>There is no key yet, so nobody can ask.</Empty>
        )}
      </Panel>
    </div>
  );
}

function wordsOf(policy: Record<string, unknown>): string {
  const words = Object.entries(policy).map(([name, value]) => `${name}: ${JSON.stringify(value)}`);
  return words.join(", ") || "unlimited";
}

function Revoke(props: { of: Key; done: () => Promise<void> }) {
  const [trouble, setTrouble] = useState("");
  const revoke = async () => {
    try {
      await send(`admin/keys/${props.of.id}`, undefined, "DELETE");
      await props.done();
    } catch (error) {
      setTrouble(messageOf(error));
    }
  };
  if (trouble) return <span class="tag bad" role="alert">{trouble}</span>;
  return <Sure label="Revoke" what={props.of.name} act={revoke} />;
}

const NUMBERS = [
  ["requests_per_minute", "Requests a minute"],
  ["tokens_per_minute", "Tokens a minute"],
  ["concurrency", "Requests at once"],
  ["budget_usd_per_day", "USD a day"],
  ["budget_usd_per_month", "USD a month"],
  ["max_cost_usd", "USD a request"],
] as const;

function NewKey({ made }: { made: () => Promise<void> }) {
  const [token, setToken] = useState("");
  const [trouble, setTrouble] = useState("");
  const make = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const given = new FormData(form);
    const text = (name: string) => String(given.get(name) ?? "").trim();
    const policy: Record<string, unknown> = {};
    for (const [name] of NUMBERS) if (text(name)) policy[name] = Number(text(name));
    const allow = text("allow").split(",").map((name) => name.trim()).filter(Boolean);
    if (allow.length) policy.allow = allow;
    const days = text("expires_days");
    try {
      const told = await send<{ key: string }>("admin/keys", {
        name: text("name"),
        policy,
        ...(days ? { expires_days: Number(days) } : {}),
      });
      setToken(told.key);
      setTrouble("");
      form.reset();
      await made();
    } catch (error) {
      setTrouble(messageOf(error));
    }
  };
  return (
    <Panel title="New key">
      <form class="new-key" onSubmit={make}>
        <label>
          <span>Name</span>
          <input name="name" required autocomplete="off" />
        </label>
        <label>
          <span>Models, comma between</span>
          <input name="allow" placeholder="all" autocomplete="off" />
        </label>
        {NUMBERS.map(([name, words]) => (
          <label key={name}>
            <span>{words}</span>
            <input name={name} type="number" min="0" step="any" placeholder="no limit" />
          </label>
        ))}
        <label>
          <span>Days it is good for</span>
          <input name="expires_days" type="number" min="0" step="any" placeholder="for ever" />
        </label>
        <button type="submit" class="primary">Make key</button>
      </form>
      {trouble && <Notice tone="bad">{trouble}</Notice>}
      {token && (
        <div class="token" role="status">
          <p>This is shown once. Copy it now:</p>
          <code>{token}</code>
          <CopyButton text={() => token} />
        </div>
      )}
    </Panel>
  );
}
