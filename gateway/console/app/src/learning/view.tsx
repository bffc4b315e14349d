// Routers learnt from traffic: which one serves, how each fared, and the way back.

import { useState } from "preact/hooks";
import { messageOf, send } from "../shared/api";
import { Empty, Figure, Notice, Panel, Sure, Table, usePolled } from "../shared/pieces";
import { about } from "../try/settings";
import { ago, day, quality, tokens } from "../shared/words";
import type { Learning, Measures, Version } from "./history";
import { learningPath } from "./history";

export function LearningView() {
  const { data, error, refresh } = usePolled<Learning>(learningPath(), 5000);
  if (error) return <Notice tone="bad">{error}</Notice>;
  if (!data) return <Empty>Asking…</Empty>;
  if (!data.enabled) return <Empty>This gateway does not learn from its traffic.</Empty>;
  return (
    <div class="stack">
      <InForce told={data} />
      <LastStep told={data} />
      <Panel title="Versions of the router">
        {data.versions.length ? (
          <Versions told={data} changed={refresh} />
        ) : (
          <Empty>
            None was trained yet. <code>thalamus learn</code> trains one from scored traffic.
          </Empty>
        )}
      </Panel>
    </div>
  );
}

function InForce({ told }: { told: Learning }) {
  const { active } = told;
  const since = active?.since_s == null ? null : Date.now() / 1000 - active.since_s;
  return (
    <dl class="figures">
      <Figure
        label="In force"
        value={<span class="version-name">{active?.id ?? "router.artifact"}</span>}
        note={active ? (since === null ? "" : `for ${ago(since)}`) : "nothing learnt was promoted yet"}
      />
      <Figure
        label="Quality as routed"
        value={quality(active?.metrics.routed_quality)}
        note="mean score on prompts that it never saw"
      />
      <Figure
        label="Best single model"
        value={quality(active?.metrics.best_single)}
        note="on the same prompts"
      />
      <Figure
        label="Against the one before"
        value={signed(active?.metrics.difference)}
        note={interval(active?.metrics)}
      />
    </dl>
  );
}

function LastStep({ told }: { told: Learning }) {
  const step = told.last_step;
  if (!step) {
    return (
      <p class="hint">
        No step was taken yet: start <code>thalamus learn run --every 3600</code> beside the gateway.
      </p>
    );
  }
  const when = `The last step, ${ago(Date.now() / 1000 - step.ended_s)} ago`;
  if (!step.is_good) return <Notice tone="bad">{`${when}, failed: ${step.said}`}</Notice>;
  return <p class="hint">{`${when}: ${step.said}`}</p>;
}

function signed(value: number | null | undefined): string {
  if (value == null) return "–";
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;
}

function interval(measures: Measures | undefined): string {
  const { difference_low: low = null, difference_high: high = null } = measures ?? {};
  return low === null || high === null ? "not measured" : `${signed(low)} to ${signed(high)}`;
}

const STAGES: Record<Version["stage"], [string, string]> = {
  trained: ["trained", ""],
  shadow: ["in shadow", "warn"],
  promoted: ["promoted", "good"],
  rejected: ["rejected", "bad"],
  rolled_back: ["rolled back", "warn"],
};

function Versions({ told, changed }: { told: Learning; changed: () => Promise<void> }) {
  const isAdmin = about.value?.place === "admin";
  const versions = [...told.versions].reverse();
  const ends = versions.flatMap(({ metrics: m }) => [m.difference_low, m.difference_high]);
  const reach = Math.max(...ends.map((end) => Math.abs(end ?? 0)), 1e-3);
  return (
    <>
      <Table label="Versions">
        <thead>
          <tr>
            <th scope="col">Version</th>
            <th scope="col">Made</th>
            <th scope="col">Stage</th>
            <th scope="col" class="number">Prompts</th>
            <th scope="col" class="number">Quality</th>
            <th scope="col">Against the one in force then</th>
            <th scope="col">Why</th>
            {isAdmin && (
              <th scope="col">
                <span class="visually-hidden">Change</span>
              </th>
            )}
          </tr>
        </thead>
        <tbody>
          {versions.map((version) => (
            <tr key={version.id} class={version.id === told.active?.id ? "chosen" : ""}>
              <th scope="row" class="mono">{version.id}</th>
              <td>{day(version.created_s)}</td>
              <td>
                <Stage version={version} isActive={version.id === told.active?.id} />
              </td>
              <td class="number">{tokens(version.train_prompts)}</td>
              <td class="number">{quality(version.metrics.routed_quality)}</td>
              <td>
                <Difference measures={version.metrics} reach={reach} />
              </td>
              <td class="reason">{version.reason}</td>
              {isAdmin && (
                <td>
                  <Actions version={version} activeId={told.active?.id ?? null} changed={changed} />
                </td>
              )}
            </tr>
          ))}
        </tbody>
      </Table>
      <p class="hint">
        A difference whose interval lies right of the line is an improvement beyond chance.
      </p>
    </>
  );
}

function Stage({ version, isActive }: { version: Version; isActive: boolean }) {
  const [words, tone] = STAGES[version.stage];
  if (isActive) return <span class="tag good dot">in force</span>;
  // Promoted once, and another one since.
  return <span class={`tag ${version.stage === "promoted" ? "" : tone}`}>{words}</span>;
}

/** A difference and its interval, all on one scale around nothing. */
function Difference({ measures, reach }: { measures: Measures; reach: number }) {
  const { difference, difference_low: low, difference_high: high } = measures;
  if (difference === null || low === null || high === null) return <span class="quiet">–</span>;
  const place = (value: number) => `${50 + (value / reach) * 46}%`;
  const tone = low > 0 ? "better" : high < 0 ? "worse" : "";
  return (
    <span class={`difference ${tone}`}>
      <span class="dot-line" aria-hidden="true">
        <span class="nought" />
        <span
          class="dot-error"
          style={{ left: place(low), width: `${((high - low) / reach) * 46}%` }}
        />
        <span class="dot" style={{ left: place(difference) }} />
      </span>
      <span class="number">{signed(difference)}</span>
      <span class="visually-hidden">, between {interval(measures)}</span>
    </span>
  );
}

interface ActionsProps {
  version: Version;
  activeId: string | null;
  changed: () => Promise<void>;
}

function Actions({ version, activeId, changed }: ActionsProps) {
  const [trouble, setTrouble] = useState("");
  if (version.id === activeId) return null;
  const change = (action: string) => async () => {
    try {
      await send(`admin/learning/${action}`, { id: version.id });
      setTrouble("");
      await changed();
    } catch (error) {
      setTrouble(messageOf(error));
    }
  };
  const wasInForce = version.stage === "promoted" || version.stage === "rolled_back";
  return (
    <span class="actions">
      {wasInForce ? (
        <Sure label="Roll back" what={`to ${version.id}`} act={change("rollback")} />
      ) : (
        <Sure label="Promote" what={version.id} act={change("promote")} />
      )}
      {(version.stage === "trained" || version.stage === "shadow") && (
        <Sure label="Reject" what={version.id} act={change("reject")} />
      )}
      {trouble && <span class="tag bad" role="alert">{trouble}</span>}
    </span>
  );
}
