// Types of the module judge.js. Scores are in the units of the judge's scale, probabilities in [0, 1], sizes in bytes, times in
// seconds. Every promise rejects with a Failure.

export type FailureName =
  | "InsecureContext" | "NoWebGpu" | "NoAdapter" | "LimitTooSmall" | "OutOfMemory" | "DeviceLost" | "NoEngine"
  | "NotAModel" | "BadBundle" | "HashMismatch" | "Unreachable" | "QuotaFull" | "BadRow" | "Stopped" | "Internal"
  | "EngineEnded";

export class Failure extends Error {
  /** What went wrong; `message` is one plain sentence about it. */
  name: FailureName;
  /** Whether the engine was ended by this: load the judge again. */
  readonly breaksEngine: boolean;
}

/** What is judged. Which columns are needed depends on the judge's template; others are left alone. */
export interface Row {
  instruction?: string;
  response?: string;
  reference?: string;
  rubric?: string;
  /** The whole prompt, for judges whose template is "plain". */
  prompt?: string;
  /** What a person gave, for training and comparison. */
  score?: number;
  [column: string]: unknown;
}

export interface ScoreOptions {
  /** Chains of thought; their scores are averaged. Default 1. */
  chains?: number;
  /** 0 is greedy. Default 0 for one chain, 1 for several. */
  temperature?: number;
  /** Default 0. The same seed gives the same chains on the same adapter. */
  seed?: number;
  /** Over the score tokens alone, or over the whole vocabulary. Default "renormalised". */
  expectation?: "full" | "renormalised";
  signal?: AbortSignal;
}

export interface Token {
  chain: number;
  text: string;
}

export interface Chain {
  text: string;
  score: number;
  distribution: number[];
  /** The score phrase had to be put there because the chain did not come to it. */
  forced: boolean;
}

export interface Score {
  /** The expected score. */
  score: number;
  /** The most probable score. */
  decoded: number;
  /** Probability of each score, in the scale's order. */
  distribution: number[];
  /** Probability on score tokens in the whole vocabulary. */
  scoreMass: number;
  /** Standard deviation of the chains' scores. */
  std: number;
  chains: Chain[];
  tokens: number;
  seconds: number;
}

export interface BatchScore {
  score: number | null;
  decoded: number | null;
  distribution: number[] | null;
  scoreMass: number | null;
  feedback: string | null;
  error?: string;
}

export interface TrainOptions {
  heldOut?: Row[];
  steps?: number;
  learningRate?: number;
  /** Chains sampled for each row. */
  groupSize?: number;
  /** Rows a step. */
  batchSize?: number;
  seed?: number;
  onStep?: (step: TrainStep) => void;
  /** Ends after the current step; what was learned stays. */
  signal?: AbortSignal;
}

export interface TrainStep {
  step: number;
  steps: number;
  loss: number;
  reward: number;
  meanScore: number;
  gradNorm: number;
  secondsLeft: number;
}

export interface Agreement {
  rows: number[];
  rmse: number | null;
  pearson: number | null;
}

export interface Training {
  steps: number;
  seconds: number;
  before: Agreement;
  after: Agreement;
}

export interface Progress {
  phase: "read" | "download" | "compile";
  file?: string;
  /** Bytes there, of `total`. */
  done: number;
  total: number;
}

export interface Adapter {
  adapter: string;
  vendor: string;
  architecture: string;
  description: string;
  /** A CPU that stands in for a GPU. */
  software: boolean;
  limits: { maxStorageBufferBindingSize: number; maxBufferSize: number };
}

export interface About {
  name: string;
  parameters: number;
  weights: "f32" | "f16" | "bf16" | "q8" | "q4";
  scale: { texts: string[]; values: number[] };
  template: string;
  chain: boolean;
  maxCompletionLength: number;
  maxLength: number;
  /** All words, for judges that know few. */
  vocabulary?: string[];
}

export interface Manifest {
  format: "jurist-bundle";
  version: number;
  name: string;
  parameters: number;
  weights: About["weights"];
  examples?: Row[];
  [key: string]: unknown;
}

/** A bundle before its weights are fetched. */
export interface Inspection {
  key: string;
  manifest: Manifest;
  /** To download, all in all. */
  bytes: number;
  /** Of these, kept in this browser already. */
  held: number;
  /** Of the weights on the GPU. */
  gpuBytes: number;
  fits: boolean;
  /** Why it does not fit. */
  why?: string;
  adapter: Adapter;
  room: { usage: number; quota: number } | null;
}

export interface KeptModel {
  key: string;
  manifest: Manifest;
  /** Where it came from; null for files and for judges trained here. */
  address: string | null;
  /** Milliseconds since 1970. */
  date: number;
  bytes: number;
  held: number;
}

/** A bundle's address (absolute, or relative to the page), its files, or a judge kept in this browser. */
export type Source = string | URL | Iterable<File> | { key: string };

export class Judge {
  readonly about: About;
  readonly manifest: Manifest;
  readonly key: string;
  /** Whether it is kept in this browser. */
  readonly kept: boolean;
  /** Whether it was closed, or the engine that had it was ended. */
  readonly gone: boolean;

  /** Fetches (or continues to fetch), checks and opens a judge. `keep: false` leaves nothing in this browser. */
  static load(
    source: Source,
    options?: {
      onProgress?: (progress: Progress) => void;
      /** What did not stop the loading: no room to keep it. */
      onNotice?: (failure: Failure) => void;
      signal?: AbortSignal;
      keep?: boolean;
      /**
       * Holds weights of f16 and bf16 on the GPU as they came, not widened to f32: half the memory, and training trains an adapter
       * (see `train`). Quantised weights are always held as they came. Default false.
       */
      halves?: boolean;
    },
  ): Promise<Judge>;
  /** Reads the manifest alone. */
  static inspect(source: Source, options?: { signal?: AbortSignal; halves?: boolean }): Promise<Inspection>;
  static adapter(): Promise<Adapter>;
  static models(): Promise<KeptModel[]>;
  static forget(key: string): Promise<void>;
  static room(): Promise<{ usage: number; quota: number } | null>;
  /**
   * Sets who is told when the worker was ended: the engine failed, or did not stop within some seconds. The next call starts a
   * fresh one. Judges that were loaded before, and what they have learned, are gone: their methods reject with "EngineEnded".
   */
  static onEnd(listener: (failure: Failure) => void): void;

  /** What the judge reads for a row. */
  prompt(row: Row): Promise<{ text: string; tokens: number }>;
  score(row: Row, options?: ScoreOptions & { onToken?: (token: Token) => void }): Promise<Score>;
  scoreBatch(rows: Row[], options?: ScoreOptions & { onProgress?: (done: number) => void }): Promise<BatchScore[]>;
  /**
   * Fine-tunes this judge with REAL on rows that carry scores; it is changed in place. All weights learn where they are held in
   * f32; beside q8, q4 and halves a LoRA adapter learns (rank 8 on every projection of the layers), and they stay as they are.
   */
  train(rows: Row[], options?: TrainOptions): Promise<Training>;
  /** Brings back the weights that were loaded; an adapter is thrown away. */
  reset(): Promise<void>;
  /** The judge as it is now, as the files of a bundle. */
  bundle(): Promise<{ name: string; bytes: Uint8Array }[]>;
  /** Keeps the judge as it is now in this browser, under a name. */
  keep(name: string): Promise<{ key: string }>;
  free(): Promise<void>;
}
