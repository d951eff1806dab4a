// The types that the views share. Nothing in this file runs.

import type { Judge } from "../judge.js";
import type { ServedJudge } from "../lib/served.js";
import type { LoadOptions, Progress, Row, Source } from "../types.js";

/** What an element may contain. null, undefined and false are left out. */
export type Child = Node | string | number | null | undefined | false | readonly Child[];

/** A judged row, and the visitor's own score of it. */
export interface Case {
  /** What the judge reads of the row. Rows with the same key are the same case. */
  key: string;
  row: Row;
  /** The judge's score; null for rows that were only pasted as corrections. */
  score: number | null;
  correction: number | null;
}

/** A judge in this browser, or that of the page's server. */
export type AnyJudge = Judge | ServedJudge;

/** Loads a judge in place of the open one. */
export type OpenJudge = (
  source: Source | ServedJudge,
  options?: LoadOptions & { onProgress?: (progress: Progress) => void; signal?: AbortSignal },
) => Promise<void>;

/** What the views know of the page. */
export interface PageState {
  /** The open judge, if there is one. */
  judge: AnyJudge | null;
  /** The open judge. Views use it that are shown only while there is one. */
  readonly openJudge: AnyJudge;
  /** The open judge, where it is in this browser. */
  readonly ownJudge: Judge;
  /** Whether the open judge was trained here. */
  trained: boolean;
  /** What was judged, the newest first. */
  cases: Case[];
  caseKey(row: Row): string;
  /** Adds a judged row to `cases`, or updates it. */
  addCase(row: Row, score: number | null, correction?: number | null): void;
  open: OpenJudge;
  /** Shows the kept judges anew. */
  updateKeptModels(): Promise<void>;
}

/** A view: one of the page's tabs. */
export interface View {
  /** Prepares the view for another judge. */
  rebuild(): void;
  /** Is called when the view is shown. */
  onShow(): void;
}
