// Numbers as people read them. What is unknown is a dash, never a zero.

const DASH = "–";

export function quality(value: number | null | undefined): string {
  return value == null ? DASH : value.toFixed(3);
}

/** USD; below a tenth of a cent in millionths, as prices of single requests are. */
export function usd(value: number | null | undefined): string {
  if (value == null) return DASH;
  const size = Math.abs(value);
  const sign = value < 0 ? "−" : "";
  if (size === 0) return "$0";
  if (size < 1e-3) return `${sign}${trim(size * 1e6)} µ$`;
  if (size < 0.1) return `${sign}$${trim(size)}`;
  return `${sign}$${size.toFixed(size >= 100 ? 0 : 2)}`;
}

export function ms(value: number | null | undefined): string {
  if (value == null) return DASH;
  if (value >= 1000) return `${trim(value / 1000)} s`;
  return `${value >= 100 ? value.toFixed(0) : trim(value)} ms`;
}

export function tokens(value: number | null | undefined): string {
  return value == null ? DASH : Math.round(value).toLocaleString("en");
}

export function share(value: number): string {
  return `${(value * 100).toFixed(value > 0 && value < 0.01 ? 1 : 0)} %`;
}

export function count(value: number, one: string, many = `${one}s`): string {
  return `${value.toLocaleString("en")} ${value === 1 ? one : many}`;
}

export function trim(value: number): string {
  return String(Number(value.toPrecision(3)));
}

export function clock(atS: number): string {
  return new Date(atS * 1000).toLocaleTimeString([], { hour12: false });
}

export function ago(seconds: number): string {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

/** Day and time of day as the reader's clock has them, in an order that sorts. */
export function day(atS: number): string {
  const at = new Date(atS * 1000);
  const two = (part: number) => String(part).padStart(2, "0");
  const date = [at.getFullYear(), two(at.getMonth() + 1), two(at.getDate())].join("-");
  return `${date} ${two(at.getHours())}:${two(at.getMinutes())}`;
}
