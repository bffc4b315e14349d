// What was used, from the ledger on disk: by whom, on what, when. On the admin port alone.

import { useState } from "preact/hooks";
import { ModelName, colourOf } from "../shared/identity";
import { Empty, Notice, Panel, Table, usePolled } from "../shared/pieces";
import { tokens, usd } from "../shared/words";

interface Line {
  group: Record<string, string>;
  requests: number;
  prompt_tokens: number;
  cached_tokens: number;
  completion_tokens: number;
  spent_tokens: number;
  estimated: number;
  cost_usd: number;
}

const GROUPS = ["key", "model", "backend", "profile", "outcome"] as const;
type Group = (typeof GROUPS)[number];
const PERIODS = ["day", "month"] as const;
type Period = (typeof PERIODS)[number] | "";

const MEASURES = {
  cost: { words: "Cost", of: (line: Line) => line.cost_usd, told: usd },
  requests: { words: "Requests", of: (line: Line) => line.requests, told: tokens },
  tokens: {
    words: "Tokens",
    of: (line: Line) => line.prompt_tokens + line.completion_tokens + line.spent_tokens,
    told: tokens,
  },
};
type Measure = keyof typeof MEASURES;

export function UsageView() {
  const [by, setBy] = useState<Group>("key");
  const [period, setPeriod] = useState<Period>("day");
  const [measure, setMeasure] = useState<Measure>("cost");
  const [since, setSince] = useState("");
  const [until, setUntil] = useState("");
  const query = new URLSearchParams({ by });
  if (period) query.append("by", period);
  if (since) query.set("since", since);
  if (until) query.set("until", until);
  const { data, error } = usePolled<{ usage: Line[] }>(`admin/usage?${query}`, 10_000);
  const lines = data?.usage ?? [];
  return (
    <div class="stack">
      <Panel title="Usage">
        <div class="filters">
          <Choice name="By" value={by} options={GROUPS} choose={setBy} />
          <Choice name="Over time" value={period} options={["", ...PERIODS]} choose={setPeriod} />
          <Choice
            name="Show"
            value={measure}
            options={Object.keys(MEASURES) as Measure[]}
            choose={setMeasure}
          />
          <Day name="Since" value={since} choose={setSince} />
          <Day name="Until" value={until} choose={setUntil} />
        </div>
        {error && (
          <Notice tone="quiet">
            {error}. Set <code>state.ledger</code> to a file to have one.
          </Notice>
        )}
        {!error && data && !lines.length && <Empty>Nothing was used in this time.</Empty>}
        {lines.length > 0 && (
          <>
            {period && <Columns lines={lines} by={by} period={period} measure={measure} />}
            <Lines lines={lines} by={by} period={period} measure={measure} />
          </>
        )}
      </Panel>
    </div>
  );
}

function Choice<T extends string>(props: {
  name: string;
  value: T;
  options: readonly T[];
  choose: (value: T) => void;
}) {
  return (
    <label>
      <span>{props.name}</span>
      <select value={props.value} onChange={(e) => props.choose(e.currentTarget.value as T)}>
        {props.options.map((option) => (
          <option key={option} value={option}>
            {option || "in all"}
          </option>
        ))}
      </select>
    </label>
  );
}

function Day(props: { name: string; value: string; choose: (value: string) => void }) {
  return (
    <label>
      <span>{props.name}, UTC</span>
      <input type="date" value={props.value} onChange={(e) => props.choose(e.currentTarget.value)} />
    </label>
  );
}

interface Shown {
  lines: readonly Line[];
  by: Group;
  period: Period;
  measure: Measure;
}

/** Everyone in the group, whoever has most first. */
function membersOf({ lines, by, measure }: Shown): string[] {
  const totals = new Map<string, number>();
  for (const line of lines) {
    const name = line.group[by] ?? "";
    totals.set(name, (totals.get(name) ?? 0) + MEASURES[measure].of(line));
  }
  return [...totals].sort((a, b) => b[1] - a[1]).map(([name]) => name);
}

function paintOf(by: Group, name: string, members: readonly string[]): string {
  return by === "model" ? colourOf(name) : `var(--m${members.indexOf(name) % 8})`;
}

/** A column for each day or month, in layers of who used it; the table below has the figures. */
function Columns(shown: Shown) {
  const { lines, by, period, measure } = shown;
  const members = membersOf(shown);
  const of = MEASURES[measure].of;
  const times = [...new Set(lines.map((line) => line.group[period] ?? ""))].sort();
  const sums = times.map((time) => {
    const its = lines.filter((line) => line.group[period] === time);
    return { time, its, sum: its.reduce((sum, line) => sum + of(line), 0) };
  });
  const most = Math.max(...sums.map(({ sum }) => sum)) || 1;
  return (
    <div
      class="columns"
      role="img"
      aria-label={`${MEASURES[measure].words} of each ${period}; the table has the figures`}
      tabIndex={0}
      ref={(box) => box?.scrollTo({ left: box.scrollWidth })}
    >
      {sums.map(({ time, its, sum }) => (
        <div key={time} class="column" title={`${time}: ${MEASURES[measure].told(sum)}`}>
          <span class="column-sum">{MEASURES[measure].told(sum)}</span>
          <div class="column-stack" style={{ height: `${(sum / most) * 8.5}rem` }}>
            {members.map((name) => {
              const line = its.find((one) => one.group[by] === name);
              const part = line && sum ? (of(line) / sum) * 100 : 0;
              return (
                part > 0 && (
                  <span key={name} style={{ height: `${part}%`, background: paintOf(by, name, members) }} />
                )
              );
            })}
          </div>
          <span class="column-time">{period === "day" ? time.slice(5) : time}</span>
        </div>
      ))}
    </div>
  );
}

function Lines(shown: Shown) {
  const { by, period, measure } = shown;
  const members = membersOf(shown);
  const rows = [...shown.lines].sort(
    (a, b) =>
      (b.group[period] ?? "").localeCompare(a.group[period] ?? "") ||
      MEASURES[measure].of(b) - MEASURES[measure].of(a),
  );
  return (
    <Table label="Usage" class="tall">
      <thead>
        <tr>
          {period && <th scope="col">{period === "day" ? "Day" : "Month"}</th>}
          <th scope="col">{by.charAt(0).toUpperCase() + by.slice(1)}</th>
          <th scope="col" class="number">Requests</th>
          <th scope="col" class="number">Tokens read</th>
          <th scope="col" class="number">of them cached</th>
          <th scope="col" class="number">written</th>
          <th scope="col" class="number">not passed on</th>
          <th scope="col" class="number">Cost</th>
        </tr>
      </thead>
      <tbody>
        {rows.map((line) => (
          <tr key={`${line.group[period]} ${line.group[by]}`}>
            {period && <td>{line.group[period]}</td>}
            <th scope="row">
              <Member by={by} name={line.group[by] ?? ""} members={members} />
            </th>
            <td class="number">{tokens(line.requests)}</td>
            <td class="number">{tokens(line.prompt_tokens)}</td>
            <td class="number">{tokens(line.cached_tokens)}</td>
            <td class="number">{tokens(line.completion_tokens)}</td>
            <td class="number">{tokens(line.spent_tokens)}</td>
            <td class="number">{usd(line.cost_usd)}</td>
          </tr>
        ))}
      </tbody>
    </Table>
  );
}

function Member(props: { by: Group; name: string; members: readonly string[] }) {
  if (props.by === "model") return <ModelName model={props.name} />;
  return (
    <span class="member">
      <span class="term" style={{ background: paintOf(props.by, props.name, props.members) }} />
      <span class={props.by === "key" ? "mono" : ""}>{props.name || "none"}</span>
    </span>
  );
}
