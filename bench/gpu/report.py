#!/usr/bin/env python3
"""Puts what run.sh measured into one JSON file and one table.   report.py FOLDER-OF-MEASUREMENTS OUTPUT-FOLDER

Reads run.json (the machine, the tests, the phases), MODEL-ours-STAGES.json, MODEL-reference.json, and NAME.left-out (why NAME is not there).
"""
import json
import re
import sys
from pathlib import Path

MODELS = {"gpt2-xl": "GPT-2 XL (1.5B)", "gpt-j-6b": "GPT-J (6B)", "t5-xxl-11b": "T5-XXL v1.1 (11B)"}


def number(value, digits):
    return "" if value is None else f"{value:.{digits}f}"


def row(name, load=None, edit=None, step=None, first=None, tokens=None, memory=None):
    digits = lambda value: 0 if value and value >= 100 else 1 if value and value >= 10 else 2
    cells = [number(value, digits(value)) for value in (load, edit, step, first, tokens, memory)]
    return f"| {name} | " + " | ".join(cells) + " |"


def ratio(upper, lower):
    return None if not upper or not lower else upper / lower


def largest(found, what):
    return max(found.get(f"{what}_floor_operations_ms", 0), found[f"{what}_floor_bytes_ms"]) if f"{what}_floor_bytes_ms" in found else None


def section(model, parts):
    """Of one model, with what is there."""
    one, two, plain = (parts.get(name, {}) for name in ("ours-1", "ours-2", "reference"))
    roofs = one.get("roofs", {})
    lines = [f"## {MODELS.get(model, model)}", "", "| | load s | edit ms | training step ms | first token ms | tokens/s | memory GB |", "| --- | --- | --- | --- | --- | --- | --- |"]
    copy_in = one["load_gb"] / roofs["copy_in_gb_s"] if roofs else None
    token = largest(one, "token")
    floor = dict(load=copy_in, edit=largest(one, "edit"), step=largest(one, "step"), tokens=1000 / token if token else None)
    passes = dict(edit=one.get("passes_ms"), step=one.get("step_ms"), first=one.get("passes_first_token_ms"), tokens=one.get("passes_tokens_s"))
    cluster = lambda found: dict(load=found.get("load_s"), edit=found.get("edit_ms"), first=found.get("first_token_ms"), tokens=found.get("tokens_s"))
    used = lambda found: max(value for key, value in found.items() if key.startswith("memory_after")) - found["memory_before_gb"] if found else None
    theirs = dict(load=plain.get("load_s"), edit=plain.get("passes_ms"), step=plain.get("step_ms"), first=plain.get("passes_first_token_ms"), tokens=plain.get("passes_tokens_s"))
    lines += [row("floor", **floor), row("plain PyTorch", **theirs, memory=used(plain)), row("MendCluster, the passes alone", **passes),
              row("MendCluster, a cluster of 1 stage", **cluster(one), memory=used(one)), row("MendCluster, a cluster of 2 stages", **cluster(two), step=two.get("step_ms"), memory=used(two))]
    compared = {key: ratio(theirs.get(key), passes.get(key)) for key in ("edit", "step", "first")}
    compared["load"], compared["tokens"] = ratio(theirs["load"], one.get("load_s")), ratio(passes["tokens"], theirs["tokens"])
    lines.append(row("times faster than plain PyTorch: passes alone, load of 1 stage", **compared))
    to_floor = {key: ratio(passes[key], floor[key]) for key in ("edit", "step")}
    to_floor["load"], to_floor["tokens"] = ratio(one.get("load_s"), floor["load"]), ratio(floor["tokens"], passes["tokens"])
    lines += [row("times the floor: the same", **to_floor), ""]
    if roofs:
        lines.append(f"Measured: copy from pinned host memory {roofs['copy_in_gb_s']:.1f} GB/s, device memory {roofs['stream_gb_s']:.0f} GB/s read and written; products "
                     f"bfloat16 {roofs['bfloat16_tflops']:.3g} TFLOP/s, float32 {roofs['float32_tflops']:.3g}. Operations are held against products of their own shapes. "
                     f"An edit: {one['edit_gflop']:.1f} GFLOP ({one['edit_floor_operations_ms']:.2f} ms), {one['edit_gb']:.2f} GB ({one['edit_floor_bytes_ms']:.2f} ms). "
                     f"A training step: {one['step_gflop']:.1f} GFLOP ({one['step_floor_operations_ms']:.2f} ms), {one['step_gb']:.2f} GB ({one['step_floor_bytes_ms']:.2f} ms).")
    for name, found in (("1 stage", one), ("2 stages", two)):
        if "edit_phases_ms" in found:
            phases = ", ".join(f"{phase} {value:.1f}" for phase, value in found["edit_phases_ms"].items())
            lines.append(f"An edit through {name}, ms: {phases}; load at {found['load_gb_s']:.1f} GB/s.")
    says = [("PyTorch", plain, ""), ("the passes alone", one, "passes_"), ("1 stage", one, ""), ("2 stages", two, "")]
    says = [f"{name} {found[key + 'log_p_before']:.3f} and {found[key + 'log_p_after']:.3f}" for name, found, key in says if key + "log_p_after" in found]
    if says:
        lines.append(f"log p of the target before and after the edit: {'; '.join(says)}.")
    lines += [f"**Left out**: {name}: {why}" for name, why in sorted(parts.get("left-out", {}).items())]
    return lines + [""]


def main(folder, output):
    folder, output = Path(folder), Path(output)
    run = json.loads((folder / "run.json").read_text())
    models = {}
    for model in run["models"]:
        parts = models[model] = {}
        for path in folder.glob(f"{model}-*"):
            name = path.name.removeprefix(model + "-")
            if path.suffix == ".json":
                parts[name.removesuffix(".json")] = json.loads(path.read_text())
            elif path.suffix == ".left-out":
                parts.setdefault("left-out", {})[name.removesuffix(".left-out")] = path.read_text().strip()
    lines = [f"# {run['card']}", "",
             f"`bench/gpu/run.sh` on {run['date']}, commit {run['commit']}: {run['card']}, driver {run['driver']}, {run['cores']} cores; PyTorch {run['torch']} of the machine for both programs; {run['runtime']}.",
             "Weights bfloat16, editor float32 of rank 1920, random checkpoints. An edit: 28 tokens, 10 of them labels (T5: 28 and 6). A training step: one of a window of 10 edits, the window's step of Adam included. "
             "Memory: what the driver gave out, at most." if not run["small"] else "A dry run on models in thousandths of the size: the times mean nothing.",
             "", f"Tests on {run['device']}: {run['tests']}.", ""]
    for model, parts in models.items():
        lines += section(model, parts)
    lines += ["Seconds: " + ", ".join(f"{name} {seconds}" for name, seconds in run["phases"].items()) + ".", ""]
    name = "gpu-" + re.sub(r"[^a-z0-9]+", "-", run["card"].lower()).strip("-")
    output.mkdir(parents=True, exist_ok=True)
    (output / (name + ".json")).write_text(json.dumps({**run, "measured": models}, indent=2) + "\n")
    text = "\n".join(lines)
    (output / (name + ".md")).write_text(text)
    print(text)
    print(f"written: {output / name}.json and .md")


if __name__ == "__main__":
    main(*sys.argv[1:])
