import { get, wholeLedger } from "./api.js";
import { bytes, el, number, percent, problem, right, table } from "./dom.js";
import { plot } from "./plot.js";

const phases = ["forward", "backward", "editor", "try", "append", "broadcast"];

// What the edits cost: their quality from the ledger, their time from the server that made them.
export async function quality(page, signal) {
  const out = el("div", { "aria-live": "polite" }, el("p", {}, "Reading the ledger..."));
  page.append(el("h1", {}, "Quality"), out);
  try {
    const [entries, { recentEdits: recent }] = await Promise.all([wholeLedger(signal), get("/v1/status", { signal })]);
    const reverted = new Set(entries.filter(entry => entry.kind === "revert").map(entry => entry.edit));
    const edits = entries.filter(entry => entry.kind === "edit" && entry.figures), active = edits.filter(entry => !reverted.has(entry.edit));
    const measured = edits.filter(entry => entry.figures.drawdown !== undefined);
    const { totalDrawdown, totalKl, budgetLeft } = entries.at(-1)?.figures ?? {}; // a revert has none: what it left is known with the next edit
    const rank = active.reduce((sum, entry) => sum + (entry.figures.rank ?? 0), 0);
    out.replaceChildren(
      table("In all", ["figure", "value"], [
        ["edits in force", right(`${active.length} of ${edits.length}`)], ["with success", right(edits.length ? percent(edits.filter(entry => entry.figures.success).length / edits.length) : "none yet")],
        ["rank of all in force", right(number(rank))], ["size of all in force", right(bytes(active.reduce((sum, entry) => sum + (entry.figures.bytes ?? 0), 0)))],
        ["drawdown of all in force together", right(percent(totalDrawdown))], ["KL of all in force together (nats)", right(number(totalKl, 6))],
        ["left of their budget", { text: percent(budgetLeft), class: budgetLeft < 0.1 ? "number bad" : "number" }],
      ]),
      budgetLeft === undefined ? "" : el("progress", { "aria-label": "Edit budget that is spent", max: 1, value: 1 - budgetLeft }),
      el("div", { class: "plots" },
        plot("Drawdown by edit", measured.map(entry => [entry.version, entry.figures.drawdown])),
        plot("KL by edit (nats)", edits.filter(entry => entry.figures.kl !== undefined).map(entry => [entry.version, entry.figures.kl]), { digits: 6 }),
        plot("Probability of the target after the edit", edits.map(entry => [entry.version, entry.figures.probabilityAfter])),
        plot(`Time by phase (ms), mean of ${recent.length} edits of this server`, recent.length === 0 ? []
          : phases.map(phase => [phase, 1e3 * recent.reduce((sum, edit) => sum + edit.times[phase], 0) / recent.length]), { bars: true, digits: 1 }),
        plot("Size of an edit (kB)", edits.filter(entry => entry.figures.bytes).map(entry => [entry.version, entry.figures.bytes / 1e3]), { digits: 1 })));
  } catch (e) {
    out.replaceChildren(problem(e));
  }
}
