/* Is the file server there? The page has one state for it, and each part of the page takes its words from this table: so no two parts
   can disagree. app.js tells all of them at once when the state changes. */

const LOST = "This page has lost the site and keeps trying to reach it. What you see below may be out of date.";

export const STATES = {
  connecting: { word: "Not known yet", idle: "What is moving is not known yet." },
  online: { word: "Online", idle: "Nothing is moving right now. Start a download and watch its thread here." },
  offline: { word: "Offline", idle: "Nothing can move while the file server is not reachable." },
  unreachable: { word: "Site not reachable", idle: "What is moving cannot be seen while the site is not reachable.", banner: LOST },
};

export const AWAY = new Set(["offline", "unreachable"]);
