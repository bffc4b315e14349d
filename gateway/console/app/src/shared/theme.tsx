// Light, dark, or as the system has it.

import { effect, signal } from "@preact/signals";

const THEMES = ["system", "light", "dark"] as const;
type Theme = (typeof THEMES)[number];

const STORED = "thalamus-theme";
const stored = localStorage.getItem(STORED) as Theme | null;
const theme = signal<Theme>(stored && THEMES.includes(stored) ? stored : "system");

effect(() => {
  if (theme.value === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
  localStorage.setItem(STORED, theme.value);
});

export function Theme() {
  return (
    <label class="theme">
      <span class="visually-hidden">Theme</span>
      <select value={theme.value} onChange={(e) => (theme.value = e.currentTarget.value as Theme)}>
        {THEMES.map((name) => (
          <option key={name} value={name}>
            {name === "system" ? "System" : name === "light" ? "Light" : "Dark"}
          </option>
        ))}
      </select>
    </label>
  );
}
