/* The choice of light, dark or the system's colours. A classic script in <head>: it must run before the
   first paint, or a page in the other colours would flash up. */
(() => {
  const KEY = "theme";
  const CHOICES = ["system", "light", "dark"];

  function stored() {
    try { return localStorage.getItem(KEY); } catch { return null; } // storage may be forbidden
  }
  function remember(choice) {
    try { localStorage.setItem(KEY, choice); } catch { /* then it lasts as long as the page */ }
  }
  function apply(choice) {
    const root = document.documentElement;
    if (choice === "system") delete root.dataset.theme; else root.dataset.theme = choice;
  }
  function label(button, choice) {
    const words = choice === "system" ? "as the system" : choice;
    button.setAttribute("aria-label", `Colours: ${words}`);
    button.title = `Colours: ${words}`;
    button.dataset.choice = choice;
  }

  let choice = CHOICES.includes(stored()) ? stored() : "system";
  apply(choice);
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    if (!button) return;
    label(button, choice);
    button.addEventListener("click", () => {
      choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
      apply(choice);
      remember(choice);
      label(button, choice);
    });
  });
})();
