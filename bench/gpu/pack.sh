#!/usr/bin/env bash
# Makes artifacts/gpu/kit.tar.xz: what bench/gpu/run.sh runs on a machine that has no .NET. Run it where the .NET SDK is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
most=60000000 # bytes

kit=artifacts/gpu/kit
rm -rf "$kit" "$kit.tar.xz" && mkdir -p "$kit"
for project in bench/Bench.csproj tests/Runner/Runner.csproj; do # one folder: they share the runtime
  dotnet publish "$project" -c Release -r linux-x64 --self-contained -p:Libtorch=folder -p:DebugType=none -p:SatelliteResourceLanguages=en -o "$kit" -v quiet -nologo
done
git rev-parse --short HEAD >"$kit/commit"
[ -z "$(git status --porcelain -- src tests bench)" ] || echo "$(cat "$kit/commit") and changes" >"$kit/commit"
tar -C "$kit" -cf - . | xz -T0 -6 >"$kit.tar.xz"
bytes=$(stat -c %s "$kit.tar.xz")
echo "$kit.tar.xz: $bytes bytes; unpacked $(du -sb "$kit" | cut -f1)"
if [ "$bytes" -gt "$most" ]; then
  echo "more than $most bytes" >&2
  exit 1
fi
