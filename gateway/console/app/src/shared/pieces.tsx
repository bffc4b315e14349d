// Small pieces that every view is made of.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { get, messageOf } from "./api";

export function Panel(props: {
  title: string;
  aside?: ComponentChildren;
  class?: string;
  children: ComponentChildren;
}) {
  const id = `panel-${props.title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  return (
    <section class={`panel ${props.class ?? ""}`} aria-labelledby={id}>
      <header class="panel-head">
        <h2 id={id}>{props.title}</h2>
        {props.aside && <div class="panel-aside">{props.aside}</div>}
      </header>
      {props.children}
    </section>
  );
}

/** A table that scrolls by itself where the page is too narrow for it. */
export function Table(props: { label: string; class?: string; children: ComponentChildren }) {
  return (
    <div class={`scroll ${props.class ?? ""}`} tabIndex={0} role="region" aria-label={`${props.label}, table`}>
      <table>{props.children}</table>
    </div>
  );
}

export function Figure(props: { label: string; value: ComponentChildren; note?: ComponentChildren }) {
  return (
    <div class="figure">
      <dt>{props.label}</dt>
      <dd>
        <span class="figure-value">{props.value}</span>
        {props.note && <span class="figure-note">{props.note}</span>}
      </dd>
    </div>
  );
}

export function Notice(props: { tone: "warn" | "bad" | "quiet"; children: ComponentChildren }) {
  return (
    <div class={`notice ${props.tone}`} role={props.tone === "bad" ? "alert" : undefined}>
      {props.children}
    </div>
  );
}

export function Empty(props: { children: ComponentChildren }) {
  return <p class="empty">{props.children}</p>;
}

export function CopyButton(props: { text: () => string; label?: string }) {
  const [told, tell] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(props.text());
      tell("Copied");
    } catch {
      tell("Not permitted here");
    }
    setTimeout(() => tell(""), 1600);
  };
  return (
    <button type="button" class="small" onClick={copy}>
      <span aria-live="polite">{told || (props.label ?? "Copy")}</span>
    </button>
  );
}

/** A button for what cannot be undone lightly: it acts at the second press. */
export function Sure(props: { label: string; what: string; act: () => Promise<void> }) {
  const [isAsked, ask] = useState(false);
  const press = async () => {
    if (!isAsked) return ask(true);
    ask(false);
    await props.act();
  };
  return (
    <button
      type="button"
      class={`small ${isAsked ? "danger" : ""}`}
      aria-label={isAsked ? `Really ${props.label.toLowerCase()} ${props.what}` : `${props.label} ${props.what}`}
      onClick={press}
      onBlur={() => ask(false)}
    >
      {isAsked ? `Really ${props.label.toLowerCase()}` : props.label}
    </button>
  );
}

export interface Polled<T> {
  data: T | null;
  error: string;
  refresh: () => Promise<void>;
}

/** Ask for something again and again while the page is seen; `everyMs` null asks once. */
export function usePolled<T>(path: string, everyMs: number | null): Polled<T> {
  const [data, setData] = useState<T | null>(null);
  const [error, setError] = useState("");
  const latest = useRef<() => Promise<void>>(async () => {});
  useEffect(() => {
    const leaving = new AbortController();
    const refresh = async () => {
      try {
        const told = await get<T>(path, leaving.signal);
        setData(told);
        setError("");
      } catch (failure) {
        if (!leaving.signal.aborted) setError(messageOf(failure));
      }
    };
    latest.current = refresh;
    void refresh();
    const timer = everyMs === null ? 0 : setInterval(() => document.hidden || void refresh(), everyMs);
    return () => {
      leaving.abort();
      clearInterval(timer);
    };
  }, [path, everyMs]);
  return { data, error, refresh: () => latest.current() };
}
