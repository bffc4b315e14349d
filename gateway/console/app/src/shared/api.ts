// Every request of the page, with the key that its reader gave, which this tab alone remembers.

import { signal } from "@preact/signals";

export interface About {
  place: "gateway" | "admin";
  auth: "open" | "keys";
  goals: Goal[];
  profiles: Record<string, Partial<Record<Goal, number>>>;
}

export type Goal =
  | "cost"
  | "latency"
  | "size"
  | "recency"
  | "security"
  | "verbosity"
  | "readability";

const STORED_KEY = "thalamus-key";

export const key = signal(sessionStorage.getItem(STORED_KEY) ?? "");
/** Whether the gateway asked for a key, or refused the one it was shown. */
export const asksForKey = signal(false);

export function setKey(value: string): void {
  key.value = value;
  asksForKey.value = false;
  if (value) sessionStorage.setItem(STORED_KEY, value);
  else sessionStorage.removeItem(STORED_KEY);
}

/** An answer that is an error object, as OpenAI words it. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string | null,
    message: string,
    readonly nearest: number | null = null,
    readonly constraint: string | null = null,
  ) {
    super(message);
  }
}

/** The address of a path of the gateway, wherever `/console/` is mounted. */
export function address(path: string): string {
  return new URL(`../${path}`, document.baseURI).href;
}

export async function call(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  if (key.value) headers.set("authorization", `Bearer ${key.value}`);
  let response: Response;
  try {
    response = await fetch(address(path), { ...init, headers, credentials: "omit" });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The gateway does not answer.");
  }
  if (response.status === 401) asksForKey.value = true;
  if (!response.ok) throw await errorOf(response);
  return response;
}

async function errorOf(response: Response): Promise<ApiError> {
  try {
    const { error } = await response.json();
    return new ApiError(
      response.status,
      error.code,
      error.message,
      error.nearest_feasible ?? null,
      error.constraint ?? null,
    );
  } catch {
    return new ApiError(response.status, null, `The gateway answered ${response.status}.`);
  }
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await call(path, signal ? { signal } : {})).json();
}

export async function send<T>(
  path: string,
  content?: unknown,
  method = "POST",
  signal?: AbortSignal,
): Promise<T> {
  const response = await call(path, {
    method,
    ...(content === undefined
      ? {}
      : { headers: { "content-type": "application/json" }, body: JSON.stringify(content) }),
    ...(signal ? { signal } : {}),
  });
  return (response.status === 204 ? undefined : await response.json()) as T;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
