// The console: a page for each part, over the same API that any other client has. What the server says is shown as text, never as markup.
import { edit } from "./edit.js";
import { ask } from "./ask.js";
import { ledger } from "./ledger.js";
import { cluster } from "./cluster.js";
import { quality } from "./quality.js";
import { training } from "./training.js";
import { get, hasKey, onRefused, setKey } from "./api.js";
import { el } from "./dom.js";

const pages = { edit, ask, ledger, cluster, quality, training };
const main = document.getElementById("page"), dialog = document.getElementById("key-dialog"), field = document.getElementById("key");
let leave = () => {};

// A link from `mend serve` brings the key behind the hash, which no server sees; it does not stay in the address.
const brought = /^#key=(.+)$/.exec(location.hash);
if (brought) {
  setKey(decodeURIComponent(brought[1]));
  history.replaceState(null, "", "/#/edit");
}

function show() {
  const name = location.hash.slice(2).split("?")[0] || "edit", page = pages[name] ?? edit;
  leave();
  const stop = new AbortController();
  leave = () => stop.abort();
  for (const link of document.querySelectorAll("nav a"))
    link.hash === `#/${name in pages ? name : "edit"}` ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  main.replaceChildren();
  page(main, stop.signal);
  document.title = `${main.querySelector("h1")?.textContent ?? ""} - MendCluster`;
}

function askForKey(problem) {
  document.getElementById("key-problem").textContent = problem ?? "";
  if (!dialog.open)
    dialog.showModal();
}

onRefused(problem => askForKey(problem));
document.getElementById("change-key").addEventListener("click", () => askForKey());
dialog.addEventListener("close", () => {
  if (dialog.returnValue === "use") {
    setKey(field.value.trim());
    start();
  }
  field.value = "";
});
window.addEventListener("hashchange", () => { show(); main.focus(); });

async function start() {
  show();
  try {
    const status = await get("/v1/status");
    document.getElementById("model").textContent = status.model;
  } catch (problem) {
    if (problem.status !== 401)
      main.prepend(el("p", { class: "note bad", role: "alert" }, `${problem.message}`));
  }
}

start();
export { hasKey };
