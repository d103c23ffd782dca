/** A stream of samples taken from one rate to another: a sinc under a Kaiser window, as a polyphase filter. */

const HALF = 40; // zero crossings of the sinc on each side: 1.7 ms at 24 kHz
const CUTOFF = 0.93; // of the lower Nyquist frequency; the stop band begins at 1.0
const BETA = 8.4; // of the window: the stop band lies below -80 dB

/**
 * Output sample n is the input at time n / to, whatever the blocks: nothing is shifted, only late by `HALF` crossings.
 */
export class Resampler {
  /** from, to: Hz, whole numbers. */
  constructor(from, to) {
    const common = divisor(from, to);
    this.up = to / common;
    this.down = from / common;
    const bandwidth = Math.min(1, to / from) * CUTOFF;
    this.reach = Math.ceil(HALF / Math.min(1, to / from)); // input samples before and after
    this.phases = this.up === this.down ? [] : filters(this.up, this.reach, bandwidth);
    this.reset();
  }

  /** Forget the samples that were. */
  reset() {
    this.kept = new Float32Array(4 * this.reach + 4096);
    this.filled = this.reach - 1; // silence before the stream
    this.next = this.reach - 1; // where in `kept` the next output lies ...
    this.phase = 0; // ... and how many `up`ths of a sample after that
    this.out = new Float32Array(0);
  }

  /** The samples that can be made with these. The array is good until the next call. */
  process(input) {
    if (this.up === this.down) return input;
    this.#keep(input);
    const most = Math.ceil((input.length * this.up) / this.down) + 1;
    if (this.out.length < most) this.out = new Float32Array(most);
    const { kept, reach, up, down, out } = this;
    let count = 0;
    while (this.next + reach < this.filled) {
      const filter = this.phases[this.phase];
      const start = this.next - reach + 1;
      let sum = 0;
      for (let i = 0; i < filter.length; i++) sum += filter[i] * kept[start + i];
      out[count++] = sum;
      this.phase += down;
      this.next += Math.floor(this.phase / up);
      this.phase %= up;
    }
    return out.subarray(0, count);
  }

  #keep(input) {
    if (this.filled + input.length > this.kept.length) {
      const start = Math.min(this.next - this.reach + 1, this.filled);
      const left = this.filled - start;
      const room = left + input.length > this.kept.length ? new Float32Array(2 * (left + input.length)) : this.kept;
      room.set(this.kept.subarray(start, this.filled));
      this.kept = room;
      this.filled = left;
      this.next -= start;
    }
    this.kept.set(input, this.filled);
    this.filled += input.length;
  }
}

/** One filter for each of the `up` places that an output can have between two inputs. */
function filters(up, reach, bandwidth) {
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

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

function kaiser(x) {
  return Math.abs(x) >= 1 ? 0 : bessel(BETA * Math.sqrt(1 - x * x)) / bessel(BETA);
}

/** The modified Bessel function I0, by its series. */
function bessel(x) {
  let sum = 1;
  for (let term = 1, k = 1; term > 1e-12 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function divisor(a, b) {
  return b === 0 ? a : divisor(b, a % b);
}
