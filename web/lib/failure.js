// What can go wrong, by name. A Failure's `name` is one of these codes, its message one plain sentence.
//
//   from the engine   NoWebGpu NoAdapter LimitTooSmall OutOfMemory DeviceLost BadBundle BadRow Stopped Internal
//   from these files  InsecureContext QuotaFull NotAModel HashMismatch Unreachable NoEngine EngineEnded

const ENGINE = ["NoWebGpu", "NoAdapter", "LimitTooSmall", "OutOfMemory", "DeviceLost", "BadBundle", "BadRow", "Stopped", "Internal"];

export class Failure extends Error {
  constructor(name, message) {
    super(message);
    this.name = name;
  }

  /** Any thrown thing as a Failure. A wasm trap is Internal: the engine cannot be trusted after one. */
  static of(error) {
    if (error instanceof Failure) return error;
    const name = error?.name;
    const message = String(error?.message ?? error);
    if (ENGINE.includes(name)) return new Failure(name, message);
    if (name === "AbortError") return new Failure("Stopped", "Stopped.");
    if (name === "QuotaExceededError") return new Failure("QuotaFull", message);
    if (name === "RangeError" && /alloc|length|memory/i.test(message)) return new Failure("OutOfMemory", message);
    return new Failure("Internal", message);
  }

  /** Whether the engine has to be started anew after this. */
  get breaksEngine() {
    return ["DeviceLost", "OutOfMemory", "Internal", "EngineEnded"].includes(this.name);
  }
}
