import { get, post } from "./api.js";
import { bytes, el, field, number, percent, problem, right, table } from "./dom.js";

export function ledger(page, signal) {
  const text = el("input", { type: "search" }), scope = el("input"), author = el("input");
  const kind = el("select", {}, el("option", { value: "" }, "all"), el("option", { value: "edit" }, "edits"), el("option", { value: "revert" }, "reverts"), el("option", { value: "consolidate" }, "consolidations"));
  const out = el("div", { "aria-live": "polite" }), said = el("div"), more = el("button", { type: "button", class: "quiet", hidden: true, onclick: () => load(next) }, "Older");
  let next, rows = [];
  page.append(el("h1", {}, "Ledger"), el("form", { class: "row", onsubmit: e => { e.preventDefault(); load(); } }, field("Text", text), field("Scope", scope), field("Author", author), field("Kind", kind),
    el("button", { type: "submit" }, "Filter")), said, out, more);
  load();

  async function load(after) {
    if (after === undefined)
      rows = [];
    const query = new URLSearchParams({ order: "newest", limit: 50 });
    for (const [name, value] of Object.entries({ text: text.value, scope: scope.value, author: author.value, kind: kind.value, after: after ?? "" }))
      if (value !== "")
        query.set(name, value);
    try {
      const found = await get(`/v1/ledger?${query}`, { signal });
      const states = await Promise.all(found.entries.map(entry => entry.kind === "revert" ? null : get(`/v1/edits/${entry.edit}`, { signal })));
      rows.push(...found.entries.map((entry, i) => row(entry, states[i])));
      next = found.next;
      out.replaceChildren(rows.length === 0 ? el("p", {}, "There is nothing here.")
        : table("Newest first", ["version", "when", "what", "prompt", "target", "scope", "by", "success", "drawdown", "KL", "size", "take back"], rows));
      more.hidden = next === undefined;
    } catch (e) {
      out.replaceChildren(problem(e));
    }
  }

  function row(entry, state) {
    const { figures } = entry;
    const { consolidated } = entry;
    const what = entry.kind === "edit" ? `edit ${entry.edit}` : consolidated ? `consolidation ${entry.edit} of ${consolidated.edits.length} edits`
      : `revert of ${entry.edit}${entry.recomputed ? `, ${entry.recomputed} computed anew` : ""}`;
    const revert = state && !state.revert ? el("button", { type: "button", class: "danger", "aria-label": `Take back ${consolidated ? "consolidation" : "edit"} ${entry.edit}`, onclick: () => takeBack(entry) }, "Take back")
      : state?.revert ? `taken back by version ${state.revert.version}` : "";
    return [right(entry.version), new Date(entry.time).toLocaleString(), what, entry.prompt ?? "", entry.target ?? "", entry.scope ?? "", entry.author ?? "",
      figures ? { text: figures.success ? "yes" : "no", class: figures.success ? "good" : "bad" } : consolidated ? percent(consolidated.after.success) : "", figures ? right(percent(figures.drawdown)) : "",
      figures ? right(number(figures.kl, 5)) : "", figures?.bytes ? right(`${bytes(figures.bytes)}, rank ${figures.rank}`) : "", revert];
  }

  async function takeBack(entry) {
    const mode = el("select", {}, el("option", { value: "remove" }, "later edits stay as they are"), el("option", { value: "recompute" }, "later edits are computed anew"));
    const what = `${entry.consolidated ? "consolidation" : "edit"} ${entry.edit}`;
    const dialog = el("dialog", { "aria-labelledby": "revert-title" }, el("form", { method: "dialog" }, el("h2", { id: "revert-title" }, `Take ${what} back`),
      el("p", {}, entry.consolidated ? "The edits are in force again as they were made." : `${entry.prompt} \u2192 ${entry.target}`), entry.consolidated ? "" : field("How", mode), el("button", { type: "submit", value: "yes", class: "danger" }, "Take it back"), " ",
      el("button", { type: "submit", value: "no", class: "quiet" }, "Leave it")));
    page.append(dialog);
    dialog.addEventListener("close", async () => {
      dialog.remove();
      if (dialog.returnValue !== "yes")
        return;
      try {
        const receipt = await post(`/v1/edits/${entry.edit}/revert`, { mode: mode.value }, { signal });
        said.replaceChildren(el("div", { class: "note good", role: "status" }, `${what[0].toUpperCase()}${what.slice(1)} is taken back; the model is at version ${receipt.version}.`));
        await load();
      } catch (e) {
        said.replaceChildren(problem(e));
      }
    });
    dialog.showModal();
  }
}
