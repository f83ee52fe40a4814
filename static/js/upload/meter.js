/* Bytes a second over the last seconds, from a count that is given again and again. */

const WINDOW = 4_000; // ms that a rate looks back
const ENOUGH = 200; // ms below which it would be a guess

export class Meter {
  #samples = [];

  /* A count that falls begins anew: after a break an upload goes on from what has really arrived. */
  add(bytes) {
    const now = performance.now();
    if (bytes < this.#samples.at(-1)?.bytes) this.reset();
    this.#samples.push({ now, bytes });
    while (now - this.#samples[0].now > WINDOW) this.#samples.shift();
  }

  reset() {
    this.#samples = [];
  }

  /* 0 while it is not known. */
  get rate() {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    const elapsed = last ? last.now - first.now : 0;
    return elapsed > ENOUGH ? (1000 * (last.bytes - first.bytes)) / elapsed : 0;
  }
}
