// The evidence: the training prompts most like this one, and what each model scored there.

import { ModelName, colourOf } from "../shared/identity";
import { Empty, Panel } from "../shared/pieces";
import { count } from "../shared/words";
import type { Decision, Pilot } from "./decision";

export function Pilots({ told }: { told: Decision }) {
  const pilots = told.nearest_pilots ?? [];
  return (
    <Panel
      title="Nearest pilots"
      aside={<span class="quiet">groups of training prompts, with every model's outcome there</span>}
    >
      {pilots.length ? (
        <ol class="pilots">
          {pilots.slice(0, 4).map((pilot) => (
            <li key={pilot.pilot}>
              <PilotCard pilot={pilot} />
            </li>
          ))}
        </ol>
      ) : (
        <Empty>This router keeps no pilots, so there is nothing to compare the prompt with.</Empty>
      )}
    </Panel>
  );
}

function PilotCard({ pilot }: { pilot: Pilot }) {
  const isLoss = pilot.outcome === "loss";
  const models = [...pilot.models].sort((a, b) => (isLoss ? a.mean - b.mean : b.mean - a.mean));
  const low = Math.min(...models.map((m) => m.mean - m.error));
  const high = Math.max(...models.map((m) => m.mean + m.error));
  const place = (value: number) => `${((value - low) / (high - low || 1)) * 100}%`;
  return (
    <article class="pilot">
      <header>
        <h3>{pilot.task ?? `Pilot ${pilot.pilot}`}</h3>
        <span class="similarity" title="cosine similarity">
          <span aria-hidden="true" style={{ width: `${Math.max(0, pilot.similarity) * 100}%` }} />
        </span>
        <span class="number">{pilot.similarity.toFixed(2)}</span>
      </header>
      <blockquote>{pilot.example}</blockquote>
      <ul class="outcomes" aria-label={`${isLoss ? "Loss" : "Score"} of each model, the best first`}>
        {models.map((m) => (
          <li key={m.model}>
            <ModelName model={m.model} />
            <span class="dot-line" aria-hidden="true">
              <span
                class="dot-error"
                style={{
                  left: place(m.mean - m.error),
                  width: `${((2 * m.error) / (high - low || 1)) * 100}%`,
                  background: colourOf(m.model),
                }}
              />
              <span class="dot" style={{ left: place(m.mean), background: colourOf(m.model) }} />
            </span>
            <span class="number">{m.mean.toFixed(2)}</span>
          </li>
        ))}
      </ul>
      <footer>
        {count(pilot.prompts, "prompt")} · mean {pilot.outcome}, {isLoss ? "less" : "more"} is better
      </footer>
    </article>
  );
}
