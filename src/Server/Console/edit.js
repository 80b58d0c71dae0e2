import { post } from "./api.js";
import { bytes, el, field, milliseconds, number, percent, problem, right, table } from "./dom.js";

// Preview first: what the edit would do; then the same edit, made.
export function edit(page, signal) {
  const prompt = el("textarea", { required: true, rows: 2 }), target = el("input", { required: true });
  const paraphrases = el("textarea", { rows: 3 }), scope = el("input"), drawdown = el("input", { type: "number", min: 0, max: 1, step: "any" });
  const success = el("input", { type: "checkbox", id: "require-success" });
  const preview = el("button", { type: "submit" }, "Preview"), commit = el("button", { type: "button", class: "quiet", disabled: true, onclick: make }, "Make this edit");
  const out = el("div", { "aria-live": "polite" });
  let shown = null, key = null;

  const form = el("form", { class: "fields", onsubmit: e => { e.preventDefault(); show(); }, oninput: forget },
    field("Prompt", prompt, "what is asked"), field("Target", target, "the answer from now on"),
    field("Paraphrases", paraphrases, "the same in other words, one a line; they are asked too, and need not be given"),
    el("div", { class: "inline" }, field("Scope", scope, "empty: for everybody"), field("Most drawdown", drawdown, "0 to 1; empty: any"),
      el("div", {}, success, el("label", { for: "require-success" }, " Refuse without success"))),
    el("div", { class: "inline" }, preview, commit));
  page.append(el("h1", {}, "Edit"), form, out);

  function asked() {
    return {
      prompt: prompt.value, target: target.value, requireSuccess: success.checked, ...(scope.value ? { scope: scope.value } : {}),
      ...(drawdown.value ? { maxDrawdown: Number(drawdown.value) } : {}),
    };
  }

  function forget() {
    shown = null;
    commit.disabled = true;
  }

  async function show() {
    preview.disabled = true;
    out.replaceChildren(el("p", {}, "Computing..."));
    try {
      const lines = paraphrases.value.split("\n").map(line => line.trim()).filter(line => line), request = asked();
      const tried = await post("/v1/edits/preview", { ...request, paraphrases: lines }, { signal });
      [shown, key] = [request, crypto.randomUUID?.() ?? `${performance.timeOrigin}-${Math.random()}`];
      out.replaceChildren(...previewed(request.prompt, tried));
      commit.disabled = tried.refused !== undefined;
    } catch (e) {
      out.replaceChildren(problem(e));
    }
    preview.disabled = false;
  }

  async function make() {
    commit.disabled = true;
    try {
      const receipt = await post("/v1/edits", shown, { signal, headers: { "Idempotency-Key": key } });
      out.prepend(el("div", { class: "note good", role: "status" }, el("strong", {}, `Edit ${receipt.id} is in force`), `, version ${receipt.version}; it took `,
        `${milliseconds(receipt.times.total)}. `, el("a", { href: "#/ledger" }, "It can be taken back in the ledger.")));
      shown = null;
    } catch (e) {
      out.prepend(problem(e));
      commit.disabled = !e.transient;
    }
  }
}

function previewed(prompt, tried) {
  const { figures } = tried;
  return [
    tried.refused !== undefined ? el("div", { class: "note bad" }, el("strong", {}, "It would be refused. "), tried.refused)
      : el("div", { class: `note ${figures.success ? "good" : "warn"}` }, figures.success ? "The edited model gives the target." : "The edited model does not give the target yet.", " Nothing was changed."),
    tried.inForce !== undefined ? el("div", { class: "note warn" }, `Edit ${tried.inForce} says the same and is in force already; this one would come on top of it.`) : "",
    table("Answers", ["asked", "before", "after"], [[prompt, tried.answerBefore, tried.answerAfter], ...tried.paraphrases.map(other => [other.prompt, other.answerBefore, other.answerAfter])]),
    table("Figures", ["figure", "value"], [
      ["probability of the target", right(`${number(figures.probabilityBefore)} \u2192 ${number(figures.probabilityAfter)}`)],
      [`drawdown on ${figures.probes} probes`, right(percent(figures.drawdown))], ["KL on the probes", right(number(figures.kl, 5))],
      ["strength, times the editor's step", right(figures.strength === undefined ? "its own" : number(figures.strength))], ["rank, size", right(`${figures.rank}, ${bytes(figures.bytes)}`)],
    ]),
    tried.probes.length === 0 ? el("p", {}, figures.probes ? "No probe's answer would change." : "There are no probes to look at.")
      : table("Probes that would change", ["question", "right answer", "before", "after", "probability"], tried.probes.map(probe => [probe.question, probe.answer,
        { text: probe.rightBefore ? "right" : "wrong", class: probe.rightBefore ? "good" : "bad" }, { text: probe.rightAfter ? "right" : "wrong", class: probe.rightAfter ? "good" : "bad" },
        right(`${number(probe.probabilityBefore)} \u2192 ${number(probe.probabilityAfter)}`)])),
    table("Update of each weight", ["weight", "rank", "norm"], tried.weights.map(weight => [weight.weight, right(weight.rank), right(number(weight.norm, 4))])),
  ];
}
