/* The end of a link is picked by the clock of this browser, and sent with how far that is from UTC on that day. */

const MINUTE = 60_000;

export function wireEnds() {
  const ends = document.querySelector("input[name=ends]");
  const offset = document.querySelector("input[name=offset]");
  if (!ends || !offset) return;
  if (ends.dataset.utc) {
    const when = new Date(ends.dataset.utc);
    ends.value = new Date(when - when.getTimezoneOffset() * MINUTE).toISOString().slice(0, 16);
  }
  const tell = () => { offset.value = ends.value ? -new Date(ends.value).getTimezoneOffset() : ""; };
  ends.addEventListener("change", tell);
  tell();
}
