// What this reader may do at this gateway.

import { signal } from "@preact/signals";

export interface Session {
  keeps_feedback: boolean;
  policy_version: string;
  routers: string[];
  models: string[];
}

export const session = signal<Session | null>(null);
