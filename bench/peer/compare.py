#!/usr/bin/env python3
"""Edit and training step beside plain PyTorch on this CPU: the same checkpoint, texts, passes and rank, in turn.

  bench/peer/compare.py [--models gpt2-small,t5-small] [--dtypes Float32,BFloat16] [--rounds 3] [--python /usr/bin/python3]

Needs a build of the bench (./mend setup) and a Python with torch (Debian: python3-torch). PyTorch's part is bench/gpu/reference.py, which does without
what a careful plain script does without: no gradient of a base weight, no graph below the lowest edited layer, updates stay factored. It runs with the
best of its settings (threads, kernels of OpenBLAS, waiting of threads, glibc's allocator), tried one after another on each model before the rounds; ours
with its own defaults. Writes a table in Markdown to standard output.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCH = ["dotnet", str(ROOT / "artifacts/bin/Bench/release/MendCluster.Bench.dll"), "peer"]
CORES = os.cpu_count()
# A setting is kept where it makes an edit and a step together faster than what was best so far.
SETTINGS = [("OMP_NUM_THREADS", [str(CORES), "1"]), ("OPENBLAS_NUM_THREADS", [str(CORES), "1"]), ("OPENBLAS_CORETYPE", ["Cooperlake", "SkylakeX", "Haswell"]),
            ("GOMP_SPINCOUNT", ["1000", "200000"]), ("MALLOC_MMAP_THRESHOLD_", [str(1 << 30)])]
GIVEN_UP = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MEND_THREADS", "GOMP_SPINCOUNT", "OPENBLAS_CORETYPE", "MALLOC_MMAP_THRESHOLD_")


def run(command, settings):
    """The JSON that a command writes to the file that is its argument OUT."""
    environment = {name: value for name, value in os.environ.items() if name not in GIVEN_UP} | settings
    with tempfile.NamedTemporaryFile(suffix=".json") as output:
        done = subprocess.run([output.name if part == "OUT" else part for part in command], env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)} with {settings} ended with {done.returncode}:\n{done.stdout[-500:]}{done.stderr[-2000:]}")
        return json.loads(Path(output.name).read_text())


def best_settings(command):
    """Coordinate by coordinate."""
    def cost(settings):
        found = run(command, settings)
        print(f"  {settings}: edit {found['passes_ms']:.0f} ms, step {found['step_ms']:.0f} ms", file=sys.stderr, flush=True)
        return found["passes_ms"] / first["passes_ms"] + found["step_ms"] / first["step_ms"]

    first = run(command, {})
    settings, best = {}, cost({})
    for name, values in SETTINGS:
        for value in values:
            tried = settings | {name: value}
            took = cost(tried)
            if took < best:
                settings, best = tried, took
    return settings


def figures(found, what):
    values = [one[what] for one in found]
    return statistics.median(values), min(values), max(values)


def row(name, theirs, ours, digits):
    (their, *their_range), (our, *our_range) = theirs, ours
    low, high = their_range[0] / our_range[1], their_range[1] / our_range[0]
    return (f"| {name} | {their:.{digits}f} ({their_range[0]:.{digits}f} to {their_range[1]:.{digits}f}) | {our:.{digits}f} ({our_range[0]:.{digits}f} to {our_range[1]:.{digits}f})"
            f" | {their / our:.2f} ({low:.2f} to {high:.2f}) |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="gpt2-small,t5-small")
    parser.add_argument("--dtypes", default="Float32,BFloat16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", default="/usr/bin/python3")
    options = parser.parse_args()
    version = subprocess.run([options.python, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True)
    if version.returncode != 0:
        sys.exit(f"{options.python} has no torch; install python3-torch, or name another with --python")
    cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    print(f"`bench/peer/compare.py --models {options.models} --dtypes {options.dtypes} --rounds {options.rounds}`; {CORES} cores of {cpu}; PyTorch {version.stdout.strip()}.")

    for model in options.models.split(","):
        for dtype in options.dtypes.split(","):
            with tempfile.TemporaryDirectory(prefix="mend-peer-") as folder:
                subprocess.run([*BENCH, "make", model, folder, dtype], check=True, stdout=subprocess.DEVNULL)
                theirs = [options.python, str(ROOT / "bench/gpu/reference.py"), folder, "cpu", "OUT", "passes"]
                ours = [*BENCH, "measure", folder, dtype, "OUT"]
                settings = best_settings(theirs)
                found = [], []
                for _ in range(options.rounds):
                    found[0].append(run(theirs, settings))
                    found[1].append(run(ours, {}))
            agree = [(one["log_p_before"], one["log_p_after"]) for one in found[0][:1]] + [(one["passes_log_p_before"], one["passes_log_p_after"]) for one in found[1][:1]]
            said = " ".join(f"`{name}={value}`" for name, value in settings.items()) or "its defaults"
            print(f"\n## {model}, {dtype}\n\nlibtorch of ours: {found[1][0]['runtime']}. PyTorch with {said}. Log p of the target before and after the edit: "
                  f"PyTorch {agree[0][0]:.4f}, {agree[0][1]:.4f}; ours {agree[1][0]:.4f}, {agree[1][1]:.4f}.\n")
            print("| median of rounds (range) | PyTorch | MendCluster | times |\n| --- | --- | --- | --- |")
            print(row("edit, ms", figures(found[0], "passes_ms"), figures(found[1], "passes_ms"), 0))
            print(row("training step, ms an edit", figures(found[0], "step_ms"), figures(found[1], "step_ms"), 0))
            print(row("most resident, GB", figures(found[0], "memory_after_training_gb"), figures(found[1], "memory_gb"), 2), flush=True)


if __name__ == "__main__":
    main()
