#!/usr/bin/env bash
# What did the move from our own binding (libtorch 1.13, commit 4451a96) to TorchSharp 0.107 (libtorch 2.10) cost or bring? Both take turns in one run.
#   bench/foundation.sh OLD NEW [ROUNDS [TYPES]]     OLD, NEW: commands that take a folder below artifacts/bin and arguments, such as
#                                            'dotnet ../mend-4451a96/artifacts/bin/' (a prefix, then Bench/release/MendCluster.Bench.dll ...)
# TYPES: 'Float32 BFloat16' unless given; a CPU without products of bfloat16 takes many minutes for a round of them.
# Prints for each bench shape and type the best and the median of the rounds' medians, peak memory of the process, and the demo from start to end.
set -euo pipefail
old=${1:?OLD} new=${2:?NEW} rounds=${3:-3} types=${4:-Float32 BFloat16}
results=$(mktemp)
trap 'rm -f "$results"' EXIT

# PREFIX NAME: one round of everything, a line "CASE|NAME|figure" each.
round() {
  local prefix=$1 name=$2 shape dtype
  for shape in gpt2-small t5-small; do
    for dtype in $types; do
      ${prefix}Bench/release/MendCluster.Bench.dll $shape $dtype | awk -v what="$shape $dtype" -v name="$name" '
        $1 == "edit" { print what " edit, ms|" name "|" $2 }
        $1 == "training" { print what " training step, ms|" name "|" $3 }
        $1 == "peak" { print what " process, GB|" name "|" $6 }' >>"$results"
    done
  done
  local start; start=$(date +%s%N)
  ${prefix}Cli/release/mend.dll demo >/dev/null
  echo "mend demo, start to end, ms|$name|$((($(date +%s%N) - start) / 1000000))" >>"$results"
}

for _ in $(seq "$rounds"); do
  round "$old" old
  round "$new" new
done
echo "| | old, best | old, median | new, best | new, median | new / old, medians |"
echo "| --- | ---: | ---: | ---: | ---: | ---: |"
cut -d'|' -f1 "$results" | awk '!seen[$0]++' | while read -r case; do
  for name in old new; do
    awk -F'|' -v what="$case" -v name="$name" '$1 == what && $2 == name { print $3 }' "$results" | sort -g |
      awk '{ x[NR] = $1 } END { printf "%s %s ", x[1], x[int((NR + 1) / 2)] }'
  done | awk -v what="$case" '{ printf "| %s | %s | %s | %s | %s | %.2f |\n", what, $1, $2, $3, $4, $4 / $2 }'
done
