// The types that the views share. Nothing in this file runs.

import type { Judge } from "../judge.js";
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

/** Loads a judge in place of the open one. */
export type OpenJudge = (
  source: Source,
  options?: LoadOptions & { onProgress?: (progress: Progress) => void; signal?: AbortSignal },
) => Promise<void>;

/** What the views know of the page. */
export interface PageState {
  /** The open judge, if there is one. */
  judge: Judge | null;
  /** The open judge. Views use it that are shown only while there is one. */
  readonly openJudge: Judge;
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
