// A model looks the same wherever it appears: a colour and a shape, by its place in the catalog.

import { signal } from "@preact/signals";

const COLOURS = 8;
const SHAPES = ["circle", "square", "diamond", "triangle", "pentagon"] as const;
type Shape = (typeof SHAPES)[number];

const places = signal<ReadonlyMap<string, number>>(new Map());

/** Give models their looks; those that have one keep it. */
export function meetModels(names: readonly string[]): void {
  const unknown = names.filter((name) => !places.peek().has(name));
  if (!unknown.length) return;
  const known = new Map(places.peek());
  for (const name of unknown) known.set(name, known.size);
  places.value = known;
}

/** A model that is not configured here, as pilots may know some, is a grey circle. */
export function colourOf(model: string): string {
  const place = places.value.get(model);
  return place === undefined ? "var(--edge)" : `var(--m${place % COLOURS})`;
}

function shapeOf(model: string): Shape {
  return SHAPES[(places.value.get(model) ?? 0) % SHAPES.length] as Shape;
}

const POINTS: Record<Exclude<Shape, "circle">, readonly [number, number][]> = {
  square: [[-0.86, -0.86], [0.86, -0.86], [0.86, 0.86], [-0.86, 0.86]],
  diamond: [[0, -1.2], [1.2, 0], [0, 1.2], [-1.2, 0]],
  triangle: [[0, -1.15], [1.1, 0.8], [-1.1, 0.8]],
  pentagon: [[0, -1.1], [1.05, -0.34], [0.65, 0.9], [-0.65, 0.9], [-1.05, -0.34]],
};

/** The shape of a model, centred on a point of a drawing. */
export function Mark(props: { model: string; x: number; y: number; r: number; hollow?: boolean }) {
  const colour = colourOf(props.model);
  const shape = shapeOf(props.model);
  const look = {
    fill: props.hollow ? "var(--paper)" : colour,
    stroke: colour,
    "stroke-width": 1.75,
    "stroke-linejoin": "round" as const,
  };
  if (shape === "circle") return <circle cx={props.x} cy={props.y} r={props.r} {...look} />;
  const points = POINTS[shape]
    .map(([dx, dy]) => `${props.x + dx * props.r},${props.y + dy * props.r}`)
    .join(" ");
  return <polygon points={points} {...look} />;
}

/** A model's name with its mark before it. */
export function ModelName(props: { model: string; strong?: boolean }) {
  return (
    <span class="model-name" title={props.model}>
      <svg viewBox="-7 -7 14 14" width="14" height="14" aria-hidden="true">
        <Mark model={props.model} x={0} y={0} r={4.6} />
      </svg>
      {props.strong ? <strong>{props.model}</strong> : <span>{props.model}</span>}
    </span>
  );
}

/** Names without the part that all share, up to a hyphen or slash, for where there is little room. */
export function shortNames(names: readonly string[]): Map<string, string> {
  let shared = names[0] ?? "";
  for (const name of names) {
    // A name may be the beginning of the others: then it is the one that stays whole.
    while (shared && !`${name}-`.startsWith(shared)) shared = shared.slice(0, -1);
  }
  const cut = Math.max(shared.lastIndexOf("-"), shared.lastIndexOf("/")) + 1;
  return new Map(names.map((name) => [name, name.length > cut ? name.slice(cut) : name]));
}
