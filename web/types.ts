// The types that pages, the worker and the engine share. Nothing in this file runs.
//
// Scores have the units of the judge's scale, probabilities lie in [0, 1], sizes are bytes, times are seconds. Every promise of
// the module rejects with a Failure.

export type FailureName =
  | "InsecureContext"
  | "NoWebGpu"
  | "NoAdapter"
  | "LimitTooSmall"
  | "OutOfMemory"
  | "DeviceLost"
  | "NoEngine"
  | "NotAModel"
  | "BadBundle"
  | "HashMismatch"
  | "Unreachable"
  | "QuotaFull"
  | "BadRow"
  | "Stopped"
  | "Internal"
  | "EngineEnded"
  | "KeyNeeded"
  | "ServerBusy"
  | "ServerLoading"
  | "ServerGone"
  | "ServerFailed";

/** What is judged. The judge's template decides which columns it reads (`About.columns`). Others are ignored. */
export interface Row {
  instruction?: string;
  response?: string;
  reference?: string;
  rubric?: string;
  /** The whole prompt, for judges whose template is "plain". */
  prompt?: string;
  /** The score that a person gave, for training and comparison. */
  score?: number;
  [column: string]: unknown;
}

export interface ScoreOptions {
  /** Number of chains of thought. The result averages their distributions. Default 1. */
  chains?: number;
  /** 0 is greedy. Default 0 for one chain, 1 for several. */
  temperature?: number;
  /** The same seed gives the same chains on the same adapter. Default 0. */
  seed?: number;
  /** The expected score over the score tokens alone, or over the whole vocabulary. Default "renormalised". */
  expectation?: "full" | "renormalised";
}

/** Text that was added to a chain. */
export interface Token {
  chain: number;
  text: string;
}

export interface Chain {
  text: string;
  score: number;
  distribution: number[];
  /** Whether the score phrase had to be added, because the chain did not end in it. */
  forced: boolean;
}

/** The score that people would give, of a judge that was calibrated (jurist calibrate). */
export interface Calibrated {
  score: number;
  /** People's score is between `low` and `high` with the probability `level`. */
  low: number;
  high: number;
  level: number;
  /** The kind of row whose interval it is. */
  group?: string;
}

export interface Score {
  /** The expected score. */
  score: number;
  /** The most probable score. */
  decoded: number;
  /** The probability of each score, in the scale's order. */
  distribution: number[];
  /** The probability of all score tokens together in the whole vocabulary. */
  scoreMass: number;
  /** The standard deviation of the chains' scores. */
  std: number;
  /** Only of a calibrated judge, for rows that are judged as those were that calibrated it. */
  calibrated?: Calibrated;
  chains: Chain[];
  tokens: number;
  seconds: number;
}

/** The result of one row of a batch: a score, or an error. */
export type BatchScore = RowScore | RowError;

export interface RowScore {
  score: number;
  decoded: number;
  distribution: number[];
  scoreMass: number;
  /** The chain of thought. */
  feedback: string | null;
  calibrated?: Calibrated;
  error?: undefined;
}

export interface RowError {
  /** Why the row was not judged. */
  error: string;
}

/** How well scores agree with people's. A figure that does not exist for the data is null. */
export interface Agreement {
  rmse: number | null;
  pearson: number | null;
  spearman: number | null;
}

export interface TrainOptions {
  steps?: number;
  learningRate?: number;
  /** Chains sampled per row. */
  groupSize?: number;
  /** Rows per step. */
  batchSize?: number;
  seed?: number;
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

export interface Training {
  /** Steps that were made. */
  steps: number;
  seconds: number;
  before: HeldOutAgreement;
  after: HeldOutAgreement;
  /** The optional kernels that were tried for training. */
  kernels: KernelVerdict[];
}

/** The agreement on held-out rows, and the score of each of them. */
export interface HeldOutAgreement extends Agreement {
  rows: (number | null)[];
}

export interface Progress {
  /** "read" from this browser, "download", or "compile" the shaders. */
  phase: "read" | "download" | "compile";
  file?: string;
  /** Bytes that have arrived, of `total`. */
  done: number;
  total: number;
}

/** What the engine found about an optional kernel when it tried it on this adapter, against sums in f64. */
export interface KernelVerdict {
  name: string;
  /** Whether it computed right. A kernel that did not is left out, and a plain one does its work. */
  used: boolean;
  /** The finding in a sentence. */
  why: string;
}

export interface Adapter {
  adapter: string;
  vendor: string;
  architecture: string;
  description: string;
  /** Whether it is a CPU that stands in for a GPU. */
  software: boolean;
  limits: { maxStorageBufferBindingSize: number; maxBufferSize: number };
  /** The kernels that were tried for the judge that was loaded last; null before. */
  kernels: KernelVerdict[] | null;
}

/** A column that the judge's template reads. */
export interface Column {
  name: string;
  /** Whether a row may lack it. */
  optional: boolean;
}

export interface Scale {
  texts: string[];
  values: number[];
}

/** The last is the q4 of earlier bundles. */
export type WeightDtype = "f32" | "f16" | "bf16" | "q8" | "q4" | "q4 without minima";

/** What the engine says about a loaded judge. */
export interface About {
  name: string;
  parameters: number;
  weights: WeightDtype;
  /** Whether training trains an adapter: some weights are packed, and stay as they are. */
  trainsAdapter: boolean;
  scale: Scale;
  phrase: string;
  template: string;
  /** The columns that the template reads, in the order in which people fill them in. */
  columns: Column[];
  chain: boolean;
  maxCompletionLength: number;
  maxLength: number;
  /** All words, for judges that know few. */
  vocabulary?: string[];
}

/** What a server says about its judge: what does not depend on where the judge runs. */
export type ServedAbout = Omit<About, "parameters" | "weights" | "trainsAdapter" | "maxLength">;

/** What a server answers at `health`. */
export interface ServerHealth {
  /** "ready", "loading", "lost" or "ending"; "page" where no judge is served. */
  status: string;
  /** Its judge's name. */
  model: string | null;
  /** Whether it hands out a bundle, at `bundle/`. */
  bundle: boolean;
}

/** The object `judge` of a row that a server has judged, and each of its chains. */
export interface ServedRecord {
  expected: number;
  decoded: number;
  probs: Record<string, number>;
  mass: number;
  feedback: string | null;
  forced: boolean;
  calibrated?: Calibrated;
  /** Why a row of a list was not judged. Then it has no figures. */
  error?: string | null;
}

/** A file of a bundle. */
export interface BundleFile {
  file: string;
  bytes: number;
  sha256: string;
}

/** The `manifest.json` of a bundle. */
export interface Manifest {
  format: "jurist-bundle";
  version: number;
  name: string;
  /** What the judge is good for, as its maker says it. Paragraphs have an empty line between them. */
  description?: string;
  parameters: number;
  /** `q4` is that of earlier versions. */
  weights: "f32" | "f16" | "bf16" | "q8" | "q4_1" | "q4";
  tokenizer: BundleFile;
  /** An adapter beside the weights. */
  adapter?: BundleFile;
  shards: BundleFile[];
  examples?: Row[];
  [key: string]: unknown;
}

/** Bytes that this page has stored in the browser, and bytes that the browser allows. */
export interface StorageUse {
  usage: number;
  quota: number;
}

/** A bundle before its weights are downloaded. */
export interface Inspection {
  /** The bundle's name by content. */
  key: string;
  manifest: Manifest;
  /** The size of all files to download. */
  bytes: number;
  /** How many of these bytes this browser has already. */
  cachedBytes: number;
  /** The size of the weights on the GPU. */
  gpuBytes: number;
  fits: boolean;
  /** Why it does not fit. */
  why?: string;
  adapter: Adapter;
  storage: StorageUse | null;
}

/** A judge that is kept in this browser, whole or in part. */
export interface KeptModel {
  key: string;
  manifest: Manifest;
  /** The address it was loaded from; null for files and for judges that were trained here. */
  address: string | null;
  /** Milliseconds since 1970. */
  date: number;
  bytes: number;
  cachedBytes: number;
}

/** A bundle's address (absolute, or relative to the page), its files, or a judge that is kept in this browser. */
export type Source = string | URL | Iterable<File> | { key: string };

/** A source as a message. Exactly one of its fields is set. */
export interface SourceMessage {
  address?: string;
  files?: File[];
  key?: string;
}

export interface LoadOptions {
  /** Keeps the judge in this browser. Default true. */
  keep?: boolean;
  /**
   * Keeps weights in f16 and bf16 as they are stored instead of widening them to f32. They take half the memory, and training
   * trains an adapter (see `Judge.train`). Quantised weights always stay as they are stored. Default false.
   */
  keepHalfPrecision?: boolean;
}

export interface ExportedFile {
  name: string;
  bytes: Uint8Array<ArrayBuffer>;
}

/** A judge in the worker: its number there, and what `Judge` shows. */
export interface LoadedJudge {
  judge: number;
  about: About;
  manifest: Manifest;
  key: string;
  kept: boolean;
  kernels: KernelVerdict[];
}

/** A failure as a message. */
export interface FailureMessage {
  name: FailureName;
  message: string;
}

/** What one of several tasks of `load` reports while it runs. */
export type LoadEvent = Progress | { notice: FailureMessage };

/** The calls of the worker: their arguments, events and results. */
export interface Calls {
  adapter: { args: object; event: never; value: Adapter };
  agreement: { args: { human: Float64Array; judge: Float64Array }; event: never; value: Agreement };
  inspect: { args: { source: SourceMessage; keepHalfPrecision: boolean }; event: never; value: Inspection };
  load: { args: { source: SourceMessage } & Required<LoadOptions>; event: LoadEvent; value: LoadedJudge };
  models: { args: object; event: never; value: KeptModel[] };
  forget: { args: { key: string }; event: never; value: void };
  storageEstimate: { args: object; event: never; value: StorageUse | null };
  prompt: { args: { judge: number; row: Row }; event: never; value: { text: string; tokens: number } };
  score: { args: { judge: number; row: Row; options: ScoreOptions }; event: Token; value: Score };
  scoreBatch: { args: { judge: number; rows: Row[]; options: ScoreOptions }; event: { done: number }; value: BatchScore[] };
  train: { args: { judge: number; rows: Row[]; heldOut: Row[]; options: TrainOptions }; event: TrainStep; value: Training };
  reset: { args: { judge: number }; event: never; value: void };
  bundle: { args: { judge: number }; event: never; value: ExportedFile[] };
  keep: { args: { judge: number; name: string }; event: never; value: { key: string } };
  free: { args: { judge: number }; event: never; value: void };
}

/** A message to the worker: a call, or the wish to stop one. */
export type Request = { id: number; call: keyof Calls; args: object } | { id: number; stop: true };

/**
 * A message from the worker about the call `id`: an event, that its stop was received (`running`: the engine works on it now),
 * its result, or its failure. `breaksEngine`: nothing may run on this engine any more.
 */
export type Reply =
  | { id: number; event: Calls[keyof Calls]["event"] }
  | { id: number; stopReceived: true; running: boolean }
  | { id: number; value: Calls[keyof Calls]["value"] }
  | { id: number; failure: FailureMessage & { breaksEngine: boolean } };
