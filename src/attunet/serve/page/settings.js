// Light or dark, and who somebody is.

import * as api from "./api.js";
import { byId } from "./dom.js";

const THEMES = ["auto", "light", "dark"];

/** The button that goes through the colours, which the browser remembers. */
export function bindTheme() {
  const button = byId("theme");
  const apply = (theme) => {
    document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    remember(theme);
  };
  const known = remember();
  apply(THEMES.includes(known) ? known : "auto");
  button.addEventListener("click", () =>
    apply(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]));
}

/** What the browser remembers of the colours; some keep nothing for a page, and say so by an error. */
function remember(theme = null) {
  try {
    if (theme !== null) localStorage.setItem("attunet-theme", theme);
    return localStorage.getItem("attunet-theme");
  } catch {
    return theme;
  }
}

/** The form that asks for a password when the server wants one, and the way out. */
export function bindAccount() {
  api.onPassword(() => new Promise((resolve) => {
    const dialog = byId("login");
    const enter = async (event) => {
      event.preventDefault();
      byId("login-problem").textContent = "";
      try {
        await api.enter(byId("username").value, byId("password").value);
      } catch (problem) {
        byId("login-problem").textContent = [problem.detail, problem.hint].filter(Boolean).join("; ");
        byId("password").focus();
        return;
      }
      byId("login-form").removeEventListener("submit", enter);
      byId("password").value = "";
      byId("logout").hidden = false;
      dialog.close();
      resolve();
    };
    byId("login-form").addEventListener("submit", enter);
    dialog.oncancel = (event) => event.preventDefault(); // without a password there is nothing to see
    if (!dialog.open) dialog.showModal();
  }));
  byId("logout").addEventListener("click", async () => {
    await api.leave().catch(() => null);
    location.assign("/");
  });
}
