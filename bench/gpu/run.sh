#!/usr/bin/env bash
# Everything that is to be known of MendCluster on a GPU, in one run of at most 8 minutes: see README.md beside this file.
#   bench/gpu/run.sh [--device cuda] [--models "gpt2-xl gpt-j-6b t5-xxl-11b"] [--out DIR] [--minutes 8] [--tests WHICH] [--small] [--built DIR]
#     --out      where gpu-CARD.json and gpu-CARD.md go; default $OUT, else bench/results
#     --tests    which; default "Category=Parity ~Gpu": MendCluster.Runner says how
#     --small    models in thousandths of the size: whether the kit runs
#     --built    programs of a build (artifacts/bin/Bench/release) in place of artifacts/gpu/kit.tar.xz
#   LIBTORCH=DIR: the libtorch in DIR/lib, instead of that of python3's torch.   Ends with 0 when all tests passed and nothing was left out.
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. bench/gpu/common.sh
device=cuda models="gpt2-xl gpt-j-6b t5-xxl-11b" out=${OUT:-bench/results} minutes=8 tests="Category=Parity ~Gpu" small= built=
while [ $# -gt 0 ]; do
  case "$1" in
    --device) device=$2; shift ;;
    --models) models=$2; shift ;;
    --out) out=$2; shift ;;
    --minutes) minutes=$2; shift ;;
    --tests) tests=$2; shift ;;
    --small) small=small ;;
    --built) built=$2; shift ;;
    *) sed -n 2,9p "$0" >&2; exit 2 ;;
  esac
  shift
done

status=0
phases=
phase_began=$began
end_phase() { phases+="\"$1\": $(($(date +%s) - phase_began)), "; phase_began=$(date +%s); }
left() { echo $((began + 60 * minutes - 15 - $(date +%s))); } # 15 s are for the table
# limited SECONDS COMMAND...: ended when these are over, or the run's time is
limited() {
  local most=$1; shift
  [ "$(left)" -lt "$most" ] && most=$(left)
  [ "$most" -gt 0 ] || return 124
  timeout -k 5 "$most" "$@"
}
# measure NAME SECONDS COMMAND...: the reason is kept where it does not come to its end
measure() {
  local name=$1 most=$2; shift 2
  step "$name"
  limited "$most" "$@" 2>&1 | tee "$measured/$name.log"
  local code=${PIPESTATUS[0]}
  end_phase "$name"
  [ "$code" -eq 0 ] && return
  status=1
  if [ "$code" -eq 124 ] || [ "$code" -eq 137 ]; then echo "not done within $most s, or the run's $minutes minutes" >"$measured/$name.left-out"
  else tail -c 300 "$measured/$name.log" | tr '\n' ' ' >"$measured/$name.left-out"; fi
  echo "LEFT OUT: $name: $(cat "$measured/$name.left-out")"
}

describe_machine
echo "at most, seconds: unpack and checks 30, tests and checkpoints beside them 120, gpt2-xl 80, gpt-j-6b 110, t5-xxl-11b 120, table 5; together $((60 * minutes)) and no more"
if [ -n "$built" ]; then kit=$built runner=${built/Bench/Runner}; else unpack_kit; runner=$kit; fi
[ -e "$kit/libtorch_cpu.so" ] || [ -e "$kit/runtimes/linux-x64/native/libtorch_cpu.so" ] || { find_libtorch; check_symbols; }
has_torch=; python3 -c 'import torch' 2>/dev/null && has_torch=yes

# The models lie in memory where there is room for them, so that loading is not the disk's.
need=$([ -n "$small" ] && echo 1 || echo 50) # GB
for work in /dev/shm "${TMPDIR:-/tmp}" ""; do
  [ -n "$work" ] || { echo "neither /dev/shm nor ${TMPDIR:-/tmp} has $need GB free" >&2; exit 1; }
  [ -d "$work" ] && [ "$(df --output=avail -B1G "$work" | tail -1)" -ge "$need" ] && break
done
work=$(mktemp -d "$work/mend-gpu.XXXXXX")
trap 'rm -rf "$work"' EXIT
measured=$work/measured; mkdir "$measured"
end_phase "unpack and checks"

step "checkpoints in $work, beside probe and tests"
declare -A making
for model in $models; do
  "$kit/MendCluster.Bench" gpu make "$model" "$work/$model" $small >"$measured/$model-checkpoint.log" 2>&1 &
  making[$model]=$!
done
step "the device computes what the CPU does"
limited 60 "$kit/MendCluster.Bench" gpu probe "$device" || status=1
step "tests on $device: $tests"
MEND_TEST_DEVICE=$device limited 120 "$runner/MendCluster.Runner" $tests 2>&1 | tee "$measured/tests.log" || status=1
tested=$(tail -1 "$measured/tests.log" | grep passed || echo "did not end: $(tail -1 "$measured/tests.log")")
for model in $models; do
  wait "${making[$model]}" || { status=1; echo "checkpoint of $model: $(tail -3 "$measured/$model-checkpoint.log")"; }
done
du -sh "$work"/*
end_phase "tests and checkpoints"

for model in $models; do
  for stages in 1 2; do
    measure "$model-ours-$stages" 90 "$kit/MendCluster.Bench" gpu measure "$work/$model" $stages "$device" "$measured/$model-ours-$stages.json"
  done
  if [ -n "$has_torch" ]; then
    measure "$model-reference" 60 python3 bench/gpu/reference.py "$work/$model" "$device" "$measured/$model-reference.json"
  else
    [ -n "$small" ] || status=1
    echo "python3 has no torch here" | tee "$measured/$model-reference.left-out"
  fi
  rm -rf "${work:?}/$model"
done

step "table"
field() { nvidia-smi --query-gpu="$1" --format=csv,noheader 2>/dev/null | head -1; }
card=$([ "$device" = cpu ] && echo "cpu $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2)" || field name)
MODELS=$models CARD=$card DRIVER=$([ "$device" = cpu ] && echo none || field driver_version) DEVICE=$device TESTS=$tested SMALL=$small PHASES=$phases \
  COMMIT=$(cat $kit/commit 2>/dev/null || git rev-parse --short HEAD 2>/dev/null || echo unknown) python3 - "$measured/run.json" <<'PYTHON'
import datetime, importlib.metadata, json, os, sys
from pathlib import Path
env = os.environ
try: torch = importlib.metadata.version("torch")
except importlib.metadata.PackageNotFoundError: torch = "none"
runtimes = {json.loads(path.read_text()).get("runtime") for path in Path(sys.argv[1]).parent.glob("*-ours-*.json")}
Path(sys.argv[1]).write_text(json.dumps({
    "card": env["CARD"].strip(), "driver": env["DRIVER"], "device": env["DEVICE"], "cores": os.cpu_count(), "torch": torch, "runtime": "; ".join(sorted(runtimes)) or "nothing was measured",
    "date": datetime.date.today().isoformat(), "commit": env["COMMIT"], "models": env["MODELS"].split(), "small": bool(env["SMALL"]), "tests": env["TESTS"],
    "phases": json.loads("{" + env["PHASES"].rstrip(", ") + "}")}))
PYTHON
python3 bench/gpu/report.py "$measured" "$out" || status=1
step "end, status $status"
exit $status
