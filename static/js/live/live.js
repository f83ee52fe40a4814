/* The websocket to the site: connects, reconnects with growing pauses, asks for the whole state now and then (a laptop that slept
   may have been forgotten by the site), and notices a connection that died without a word. */

const FIRST_PAUSE = 500; // ms
const LONGEST_PAUSE = 5_000;
const REFRESH = 10_000;
const SILENCE = 20_000; // each refresh is answered: two without an answer mean that nobody is there

export class Live {
  #url;
  #onMessage;
  #onLost;
  #socket = null;
  #pause = FIRST_PAUSE;
  #retry = null;
  #heard = 0;

  constructor(path, { onMessage, onLost }) {
    this.#url = new URL(path, location.href);
    this.#url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.#onMessage = onMessage;
    this.#onLost = onLost;
  }

  start() {
    this.#connect();
    setInterval(() => this.#refresh(), REFRESH);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.#wake(); });
    window.addEventListener("online", () => this.#wake());
    window.addEventListener("pageshow", (event) => { if (event.persisted) this.#wake(); });
  }

  #connect() {
    clearTimeout(this.#retry);
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    this.#heard = Date.now();
    socket.addEventListener("message", (event) => {
      if (socket !== this.#socket) return;
      this.#heard = Date.now();
      this.#pause = FIRST_PAUSE;
      const message = JSON.parse(event.data);
      if (message.type === "live") this.#onMessage(message);
    });
    socket.addEventListener("close", () => { if (socket === this.#socket) this.#lost(); });
  }

  #lost() {
    this.#socket = null;
    this.#onLost();
    this.#retry = setTimeout(() => this.#connect(), this.#pause);
    this.#pause = Math.min(LONGEST_PAUSE, this.#pause * 2);
  }

  /* A socket may take minutes to admit that its network is gone: it is dropped without waiting for its close event. */
  #drop() {
    const socket = this.#socket;
    this.#lost();
    socket.close();
  }

  #refresh() {
    if (this.#socket?.readyState === WebSocket.CONNECTING) return;
    if (this.#socket && !document.hidden && Date.now() - this.#heard > SILENCE) this.#drop();
    else this.#send({ type: "refresh" });
  }

  #wake() {
    this.#heard = Date.now(); // timers sleep in a hidden page: its silence says nothing
    if (this.#socket) this.#send({ type: "refresh" });
    else this.#connect();
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }
}
