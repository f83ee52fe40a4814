/* The header: is the file server there, where, how busy. Said in words; colour only repeats them. */

import { count, rate } from "../common/format.js";
import { setText } from "../common/dom.js";
import { Spark } from "./spark.js";
import { STATES } from "../common/state.js";

const byId = (id) => document.getElementById(id);

export class Status {
  #root = byId("status");
  #spark = new Spark(byId("spark"));

  /* message: what the site has sent, if the state comes from there. */
  show(state, message) {
    if (this.#root.dataset.state !== state) this.#root.dataset.state = state;
    setText(byId("status-word"), STATES[state].word);
    if (message) setText(byId("address"), message.address);
    // Online, it may be without its files: then the list below is what was known of them.
    this.#banner(STATES[state].banner ?? message?.message ?? message?.status?.folder_error ?? "");
    this.#numbers(state === "online" ? message.status : null);
  }

  #numbers(status) {
    setText(byId("clients"), status ? `${count(status.clients)} of ${count(status.max_clients)}` : "–");
    setText(byId("send-rate"), status ? rate(status.send_rate) : "–");
    setText(byId("receive-rate"), status ? rate(status.receive_rate) : "–");
    this.#spark.add(status?.send_rate ?? 0, status?.receive_rate ?? 0);
  }

  #banner(sentence) {
    if (sentence && byId("banner-text").textContent.trim() !== sentence) writeWithCommand(byId("banner-text"), sentence);
    byId("banner").hidden = !sentence;
  }
}

/* "… Start it with: python manage.py runfileserver" shows the command as what it is. */
function writeWithCommand(element, sentence) {
  const [words, command] = sentence.split(/(?<=: )(?=python )/);
  element.textContent = words;
  if (!command) return;
  const code = document.createElement("code");
  code.textContent = command;
  element.append(code);
}
