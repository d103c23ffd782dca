/** Converts a stream of samples to another rate: a sinc under a Kaiser window, as a polyphase filter. */

/** @typedef {Float32Array<ArrayBuffer>} Samples */

const CROSSINGS = 40; // zero crossings of the sinc on each side: 1.7 ms at 24 kHz
const CUTOFF = 0.93; // of the lower Nyquist frequency; the stop band begins at 1.0
const BETA = 8.4; // of the window: the stop band lies below -80 dB

/** Output sample n is the input at time n / to, whatever the blocks: nothing is shifted, only late by the filter. */
export class Resampler {
  #kept = new Float32Array(0);
  #filled = 0; // samples in `kept`
  #next = 0; // index in `kept` of the input at or before the next output ...
  #phase = 0; // ... and how many `up`ths of a sample the output lies after it
  #out = new Float32Array(0);

  /**
   * @param {number} from Hz, a whole number
   * @param {number} to Hz, a whole number
   */
  constructor(from, to) {
    const common = greatestCommonDivisor(from, to);
    this.up = to / common;
    this.down = from / common;
    const ratio = Math.min(1, to / from);
    this.reach = Math.ceil(CROSSINGS / ratio); // input samples before and after an output
    this.filters = this.up === this.down ? [] : makeFilters(this.up, this.reach, ratio * CUTOFF);
    this.reset();
  }

  /** Forget the samples before. */
  reset() {
    this.#kept = new Float32Array(4 * this.reach + 4096);
    this.#filled = this.#next = this.reach - 1; // silence before the stream
    this.#phase = 0;
  }

  /**
   * The output that can be computed now. The array is valid until the next call.
   *
   * @param {Samples} input
   */
  process(input) {
    if (this.up === this.down) return input;
    this.#keep(input);
    const most = Math.ceil((input.length * this.up) / this.down) + 1;
    if (this.#out.length < most) this.#out = new Float32Array(most);
    let count = 0;
    while (this.#next + this.reach < this.#filled) {
      const filter = this.filters[this.#phase];
      const start = this.#next - this.reach + 1;
      let sum = 0;
      for (let i = 0; i < filter.length; i++) sum += filter[i] * this.#kept[start + i];
      this.#out[count++] = sum;
      this.#phase += this.down;
      this.#next += Math.floor(this.#phase / this.up);
      this.#phase %= this.up;
    }
    return this.#out.subarray(0, count);
  }

  /** @param {Samples} input */
  #keep(input) {
    if (this.#filled + input.length > this.#kept.length) {
      const start = Math.min(this.#next - this.reach + 1, this.#filled);
      const needed = this.#filled - start + input.length;
      const kept = needed > this.#kept.length ? new Float32Array(2 * needed) : this.#kept;
      kept.set(this.#kept.subarray(start, this.#filled));
      this.#kept = kept;
      this.#filled -= start;
      this.#next -= start;
    }
    this.#kept.set(input, this.#filled);
    this.#filled += input.length;
  }
}

/**
 * One filter for each of the `up` positions that an output can have between two inputs.
 *
 * @param {number} up
 * @param {number} reach
 * @param {number} bandwidth of the input's Nyquist frequency
 */
function makeFilters(up, reach, bandwidth) {
  const taps = 2 * reach;
  return Array.from({ length: up }, (_, phase) => {
    const filter = new Float32Array(taps);
    let sum = 0;
    for (let i = 0; i < taps; i++) {
      const distance = i - reach + 1 - phase / up;
      filter[i] = bandwidth * sinc(bandwidth * distance) * kaiser(distance / reach);
      sum += filter[i];
    }
    return filter.map((tap) => tap / sum); // a constant stays exactly what it is, in every phase
  });
}

/** @param {number} x */
function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

/** @param {number} x */
function kaiser(x) {
  return Math.abs(x) >= 1 ? 0 : bessel(BETA * Math.sqrt(1 - x * x)) / bessel(BETA);
}

/**
 * The modified Bessel function I0, by its series.
 *
 * @param {number} x
 */
function bessel(x) {
  let sum = 1;
  for (let term = 1, k = 1; term > 1e-12 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

/**
 * @param {number} a
 * @param {number} b
 * @returns {number}
 */
function greatestCommonDivisor(a, b) {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
