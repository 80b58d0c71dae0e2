import { get, post } from "./api.js";
import { bytes, el, field, number, percent, problem, right, table } from "./dom.js";

export function ledger(page, signal) {
  const text = el("input", { type: "search" }), scope = el("input"), author = el("input");
  const kind = el("select", {}, el("option", { value: "" }, "all"), el("option", { value: "edit" }, "edits"), el("option", { value: "revert" }, "reverts"), el("option", { value: "consolidate" }, "consolidations"));
  const out = el("div", { "aria-live": "polite" }), said = el("div"), more = el("button", { type: "button", class: "quiet", hidden: true, onclick: () => load(next) }, "Older");
  let next, rows = [];
  page.append(el("h1", {}, "Ledger"), el("form", { class: "row", onsubmit: e => { e.preventDefault(); load(); } }, field("Text", text), field("Scope", scope), field("Author", author), field("Kind", kind),
    el("button", { type: "submit" }, "Filter"), el("button", { type: "button", class: "quiet", onclick: consolidate }, "Consolidate\u2026")), said, out, more);
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

  // The dialog's answer is "yes" where its first button was pressed.
  function ask(title, parts, yes, no, danger, then) {
    const dialog = el("dialog", { "aria-labelledby": "asked" }, el("form", { method: "dialog" }, el("h2", { id: "asked" }, title), parts,
      el("button", { type: "submit", value: "yes", class: danger ? "danger" : "" }, yes), " ", el("button", { type: "submit", value: "no", class: "quiet", formnovalidate: true }, no)));
    page.append(dialog);
    dialog.addEventListener("close", async () => {
      dialog.remove();
      if (dialog.returnValue !== "yes")
        return;
      try {
        said.replaceChildren(el("div", { class: "note good", role: "status" }, await then()));
        await load();
      } catch (e) {
        said.replaceChildren(problem(e));
      }
    });
    dialog.showModal();
  }

  function consolidate() {
    const of = el("input", { value: scope.value }), seconds = el("input", { type: "number", min: 1, max: 3600, value: 60, required: true });
    ask("Consolidate", [el("p", {}, "One update is looked for that does what all edits in force do, beside answers and edits, and takes their place if it is no worse."),
      field("Scope", of, "empty: the edits for everybody"), field("Seconds at most", seconds)], "Consolidate", "Leave it", false, async () => {
      said.replaceChildren(el("div", { class: "note", role: "status" }, "An update is looked for\u2026"));
      const { id, version, consolidated: { edits, before, after } } = await post("/v1/consolidations", { scope: of.value || undefined, maxTime: Number(seconds.value) }, { signal });
      return `Consolidation ${id} has the place of ${edits.length === 1 ? "one edit" : `${edits.length} edits`}, version ${version}; prompts answered as they say: ${percent(before.success)} before, ${percent(after.success)} now.`;
    });
  }

  function takeBack(entry) {
    const mode = el("select", {}, el("option", { value: "remove" }, "later edits stay as they are"), el("option", { value: "recompute" }, "later edits are computed anew"));
    const what = `${entry.consolidated ? "consolidation" : "edit"} ${entry.edit}`;
    ask(`Take ${what} back`, [el("p", {}, entry.consolidated ? "The edits are in force again as they were made." : `${entry.prompt} \u2192 ${entry.target}`),
      entry.consolidated ? "" : field("How", mode)], "Take it back", "Leave it", true, async () => {
      const receipt = await post(`/v1/edits/${entry.edit}/revert`, { mode: mode.value }, { signal });
      return `${what[0].toUpperCase()}${what.slice(1)} is taken back; the model is at version ${receipt.version}.`;
    });
  }
}
