// What can go wrong, by name. The `name` of a Failure is one of these codes, and its message is one plain sentence.
//
//   from the engine      NoWebGpu NoAdapter LimitTooSmall OutOfMemory DeviceLost BadBundle BadRow Stopped Internal
//   from the JavaScript  InsecureContext QuotaFull NotAModel HashMismatch Unreachable NoEngine EngineEnded
//   about a server       KeyNeeded ServerBusy ServerLoading ServerGone ServerFailed

/** @import { FailureName } from "../types.js" */

/** @type {FailureName[]} */
const FROM_ENGINE = [
  "NoWebGpu",
  "NoAdapter",
  "LimitTooSmall",
  "OutOfMemory",
  "DeviceLost",
  "BadBundle",
  "BadRow",
  "Stopped",
  "Internal",
];

/** What every promise of the module rejects with. */
export class Failure extends Error {
  /** What went wrong. @type {FailureName} */
  name;

  /**
   * @param {FailureName} name
   * @param {string} message
   */
  constructor(name, message) {
    super(message);
    this.name = name;
  }

  /**
   * Anything that was thrown, as a Failure. A wasm trap is Internal: the engine cannot be trusted after it.
   * @param {any} error
   * @returns {Failure}
   */
  static of(error) {
    if (error instanceof Failure) return error;
    const name = error?.name;
    const message = String(error?.message ?? error);
    if (FROM_ENGINE.includes(name)) return new Failure(name, message);
    if (name === "AbortError") return new Failure("Stopped", "Stopped.");
    if (name === "QuotaExceededError") return new Failure("QuotaFull", message);
    if (name === "RangeError" && /alloc|length|memory/i.test(message)) return new Failure("OutOfMemory", message);
    return new Failure("Internal", message);
  }

  /** Whether the engine was ended by this failure, so that the judge has to be loaded again. */
  get breaksEngine() {
    return ["DeviceLost", "OutOfMemory", "Internal", "EngineEnded"].includes(this.name);
  }
}
