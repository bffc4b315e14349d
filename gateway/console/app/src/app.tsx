// The shell: where the reader is, which views there are, and the key that opens them.

import { effect, signal } from "@preact/signals";
import type { ComponentType } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { asksForKey, get, key, messageOf, setKey } from "./shared/api";
import type { About } from "./shared/api";
import { meetModels } from "./shared/identity";
import { Notice } from "./shared/pieces";
import { session } from "./shared/session";
import type { Session } from "./shared/session";
import { Theme } from "./shared/theme";
import { learns } from "./learning/history";
import { LearningView } from "./learning/view";
import { ModelsView } from "./models/view";
import { ConfigView } from "./operate/config";
import { KeysView } from "./operate/keys";
import { UsageView } from "./operate/usage";
import { TrafficView } from "./traffic/view";
import { about } from "./try/settings";
import { TryView } from "./try/view";

interface View {
  id: string;
  name: string;
  shows: ComponentType;
  isAt: (place: About) => boolean;
}

const VIEWS: readonly View[] = [
  { id: "try", name: "Try", shows: TryView, isAt: (a) => a.place === "gateway" },
  { id: "traffic", name: "Traffic", shows: TrafficView, isAt: () => true },
  { id: "models", name: "Models", shows: ModelsView, isAt: () => true },
  { id: "learning", name: "Learning", shows: LearningView, isAt: () => learns.value },
  { id: "keys", name: "Keys", shows: KeysView, isAt: (a) => a.place === "admin" },
  { id: "usage", name: "Usage", shows: UsageView, isAt: (a) => a.place === "admin" },
  {
    id: "config",
    name: "Configuration",
    shows: ConfigView,
    isAt: (a) => a.place === "admin" || a.auth === "open",
  },
];

const here = signal(location.hash.replace(/^#\/?/, ""));
window.addEventListener("hashchange", () => {
  here.value = location.hash.replace(/^#\/?/, "");
});
const trouble = signal("");

async function arrive(): Promise<void> {
  try {
    about.value = await get<About>("console/api/about");
    trouble.value = "";
  } catch (error) {
    trouble.value = messageOf(error);
  }
}

interface ModelNames {
  models: { model: string }[];
}

function meetAll(told: ModelNames): void {
  meetModels(told.models.map((m) => m.model));
}

// Who the reader is may change with the key.
effect(() => {
  const hasKey = key.value !== "";
  if (about.value?.place !== "gateway") {
    if (hasKey && about.value) get<ModelNames>("admin/models").then(meetAll, () => {});
    return;
  }
  get<Session>("console/api/session").then(
    (told) => {
      meetModels(told.models);
      session.value = told;
    },
    () => (session.value = null),
  );
});

export function App() {
  useEffect(() => void arrive(), []);
  const place = about.value;
  const views = place ? VIEWS.filter((view) => view.isAt(place)) : [];
  const view = views.find((v) => v.id === here.value) ?? views[0];
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  useEffect(() => {
    document.title = view ? `${view.name} · Thalamus` : "Thalamus console";
    // Who walks with the keyboard goes on in the new view, not in the old one's place.
    if (!first.current) main.current?.focus({ preventScroll: true });
    if (view) first.current = false;
  }, [view?.id]);
  const isLocked = asksForKey.value || (place?.place === "admin" && !key.value);
  const Shown = view?.shows;
  return (
    <>
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); main.current?.focus(); }}>
        Skip to the content
      </a>
      <header class="top">
        <div class="brand">
          <img src="./mark.svg" alt="" width="28" height="28" />
          <span class="brand-name">Thalamus</span>
          {place?.place === "admin" && <span class="tag">admin</span>}
        </div>
        <nav aria-label="Views">
          {views.map((v) => (
            <a key={v.id} href={`#/${v.id}`} aria-current={v === view ? "page" : undefined}>
              {v.name}
            </a>
          ))}
        </nav>
        <div class="top-end">
          {key.value && !isLocked && (
            <button type="button" class="small" onClick={() => setKey("")}>Forget key</button>
          )}
          <Theme />
        </div>
      </header>
      <main ref={main} tabIndex={-1} id="main">
        <h1 class="visually-hidden">{view?.name ?? "Thalamus console"}</h1>
        {trouble.value && <Notice tone="bad">{trouble.value}</Notice>}
        {isLocked && place && <KeyForm place={place} />}
        {!isLocked && Shown && <Shown key={`${view?.id} ${key.value}`} />}
      </main>
    </>
  );
}

function KeyForm({ place }: { place: About }) {
  const [typed, type] = useState("");
  const isAdmin = place.place === "admin";
  return (
    <div class="panel lock">
      <h2>{isAdmin ? "Admin key" : "API key"}</h2>
      <p>
        {isAdmin
          ? "What admin.key in the configuration refers to."
          : "This gateway asks for keys; yours shows what it permits, and its own traffic."}{" "}
        It stays in this tab until that is closed.
      </p>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          setKey(typed.trim());
        }}
      >
        <label>
          <span class="visually-hidden">{isAdmin ? "Admin key" : "API key"}</span>
          <input
            type="password"
            autocomplete="off"
            spellcheck={false}
            required
            value={typed}
            onInput={(event) => type(event.currentTarget.value)}
          />
        </label>
        <button type="submit" class="primary">Go on</button>
      </form>
      {asksForKey.value && key.value && <Notice tone="bad">The gateway does not accept that key.</Notice>}
    </div>
  );
}
