// The configuration in force, every default included, without its secrets.

import { useState } from "preact/hooks";
import { messageOf, send } from "../shared/api";
import { CopyButton, Empty, Notice, Panel, usePolled } from "../shared/pieces";
import { about } from "../try/settings";

interface Told {
  config: Record<string, unknown>;
  policy_version: string;
}

export function ConfigView() {
  const isAdmin = about.value?.place === "admin";
  const { data, error, refresh } = usePolled<Told>(
    isAdmin ? "admin/config" : "console/api/config",
    null,
  );
  const [sought, seek] = useState("");
  if (error) {
    return (
      <Notice tone="quiet">
        {error} Set <code>admin: {"{port: 8081, key: env:ADMIN_KEY}"}</code> in the configuration to
        have one.
      </Notice>
    );
  }
  if (!data) return <Empty>Asking…</Empty>;
  const sections = Object.entries(data.config);
  return (
    <div class="stack">
      <Panel
        title="Configuration in force"
        aside={
          <>
            <span class="quiet">
              policy <span class="mono">{data.policy_version}</span>
            </span>
            <CopyButton text={() => yaml(data.config, 0)} label="Copy as YAML" />
            {isAdmin && <Reload done={refresh} />}
          </>
        }
      >
        <label class="search">
          <span class="visually-hidden">Find a setting</span>
          <input
            type="search"
            placeholder="Find a setting"
            value={sought}
            onInput={(event) => seek(event.currentTarget.value.toLowerCase())}
          />
        </label>
        {sections.map(([name, value]) => {
          const lines = yaml(value, 0).split("\n");
          const isSought = (line: string) => `${name}: ${line}`.toLowerCase().includes(sought);
          const shown = sought ? lines.filter(isSought) : lines;
          if (!shown.length) return null;
          return (
            <details key={name} class="section" open={sought !== "" || isShort(lines)}>
              <summary>{name}</summary>
              <pre class="code" tabIndex={0} aria-label={name}>{shown.join("\n")}</pre>
            </details>
          );
        })}
      </Panel>
    </div>
  );
}

function isShort(lines: readonly string[]): boolean {
  return lines.length <= 8;
}

function Reload({ done }: { done: () => Promise<void> }) {
  const [told, tell] = useState("");
  const reload = async () => {
    try {
      await send("admin/reload");
      tell("Reloaded");
      await done();
    } catch (error) {
      tell(messageOf(error));
    }
  };
  return (
    <>
      <button type="button" class="small" onClick={reload}>Reload</button>
      <span role="status" class="quiet">{told}</span>
    </>
  );
}

/** Plain YAML of what JSON can hold. */
export function yaml(value: unknown, depth: number): string {
  const pad = "  ".repeat(depth);
  if (Array.isArray(value)) {
    if (!value.some(isNested)) return `${pad}[${value.map(scalar).join(", ")}]`;
    return value.map((item) => `${pad}- ${yaml(item, depth + 1).trimStart()}`).join("\n");
  }
  if (typeof value === "object" && value !== null) {
    return Object.entries(value)
      .map(([name, item]) =>
        isNested(item) && !isFlat(item)
          ? `${pad}${plain(name)}:\n${yaml(item, depth + 1)}`
          : `${pad}${plain(name)}: ${isNested(item) ? yaml(item, 0) || "{}" : scalar(item)}`,
      )
      .join("\n");
  }
  return pad + scalar(value);
}

function isNested(value: unknown): boolean {
  return typeof value === "object" && value !== null;
}

function isFlat(value: unknown): boolean {
  if (Array.isArray(value)) return !value.some(isNested);
  return Object.keys(value as object).length === 0;
}

function scalar(value: unknown): string {
  return typeof value === "string" ? plain(value) : JSON.stringify(value);
}

function plain(text: string): string {
  const isPlain = /^[A-Za-z_./][\w ./-]*$/.test(text) && !/^(true|false|null|yes|no|on|off)$/i.test(text);
  return isPlain ? text : JSON.stringify(text);
}
