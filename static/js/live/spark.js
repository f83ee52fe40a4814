/* Two lines in the header, the rates of the last minutes. A picture beside the numbers: hidden from screen readers. */

const POINTS = 120; // one each second
const STEP = 1_000;
const WIDTH = 240;
const HEIGHT = 40;
const FLOOR = 64 * 1024; // bytes/s: the scale below which a trickle is not drawn as a flood

export class Spark {
  #down;
  #up;
  #history = [];
  #newest = { sending: 0, receiving: 0 };

  constructor(svg) {
    this.#down = svg.querySelector(".down");
    this.#up = svg.querySelector(".up");
    setInterval(() => this.#tick(), STEP);
  }

  add(sending, receiving) {
    this.#newest = { sending, receiving };
  }

  #tick() {
    this.#history.push(this.#newest);
    if (this.#history.length > POINTS) this.#history.shift();
    if (document.hidden) return;
    const top = Math.max(FLOOR, ...this.#history.map((point) => Math.max(point.sending, point.receiving)));
    this.#draw(this.#down, "sending", top);
    this.#draw(this.#up, "receiving", top);
  }

  #draw(line, key, top) {
    const start = POINTS - this.#history.length;
    const points = this.#history.map((point, index) => {
      const x = ((start + index) / (POINTS - 1)) * WIDTH;
      const y = HEIGHT - 2 - (point[key] / top) * (HEIGHT - 4);
      return `${x.toFixed(1)},${y.toFixed(1)}`;
    });
    line.setAttribute("points", points.join(" "));
  }
}
