/* The header: is the file server there, where, how busy. Said in words; colour only repeats them. */

import { count, rate } from "./format.js";
import { setText } from "./dom.js";
import { Spark } from "./spark.js";

const WORDS = { online: "Online", offline: "Offline", unreachable: "Site not reachable" };
const LOST = "This page has lost the site and keeps trying to reach it. What you see below may be out of date.";

const byId = (id) => document.getElementById(id);

export class Status {
  #root = byId("status");
  #spark = new Spark(byId("spark"));

  get state() {
    return this.#root.dataset.state;
  }

  show(message) {
    setText(byId("address"), message.address);
    if (!message.online) return this.#offline(message);
    this.#state("online");
    this.#banner(message.status.folder_error ?? ""); // online, but without its files: the list below is what was known
    const { clients, max_clients: most, send_rate: sending, receive_rate: receiving } = message.status;
    setText(byId("clients"), `${count(clients)} of ${count(most)}`);
    setText(byId("send-rate"), rate(sending));
    setText(byId("receive-rate"), rate(receiving));
    this.#spark.add(sending, receiving);
  }

  lost() {
    this.#state("unreachable");
    this.#banner(LOST);
    this.#noNumbers();
  }

  #offline(message) {
    this.#state("offline");
    this.#banner(message.message);
    this.#noNumbers();
  }

  #noNumbers() {
    for (const id of ["clients", "send-rate", "receive-rate"]) setText(byId(id), "–");
    this.#spark.add(0, 0);
  }

  #state(state) {
    if (this.state !== state) this.#root.dataset.state = state;
    setText(byId("status-word"), WORDS[state]);
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
