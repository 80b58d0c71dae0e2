#!/usr/bin/env bash
# Builds the image of k8s/Dockerfile with buildah, where Microsoft's base images cannot be had: Debian of their release with this machine's .NET stands in for the one
# that programs run on; the one that builds copies what was published outside, and says so. Prints the name of a container of the image.
#   image.sh WORK PUBLISHED BASE    WORK: an empty folder; PUBLISHED: of dotnet publish; BASE: where Debian is kept for the next time
set -euo pipefail
work=$1 published=$2 base=$3
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build() { buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run" "$@"; }

if [ ! -f "$base/.whole" ]; then
  rm -rf "$base"
  { debootstrap --foreign --variant=minbase --include=ca-certificates,libgcc-s1,libstdc++6,libssl3t64,zlib1g trixie "$base" &&
    for package in "$base"/var/cache/apt/archives/*.deb; do dpkg-deb --extract "$package" "$base"; done; } >"$work/base.log" 2>&1 || { tail -20 "$work/base.log" >&2; exit 1; }
  rm -rf "$base"/var/cache/apt/* "$base"/var/lib/apt/lists/* "$base/debootstrap"
  touch "$base/.whole"
fi

container=$(build from scratch)
build add --quiet "$container" "$base" / >/dev/null
build add --quiet "$container" "$(dirname "$(readlink -f "$(command -v dotnet)")")/shared" /usr/share/dotnet/shared >/dev/null
build add --quiet "$container" "$(dirname "$(readlink -f "$(command -v dotnet)")")/host" /usr/share/dotnet/host >/dev/null
build add --quiet "$container" "$(readlink -f "$(command -v dotnet)")" /usr/share/dotnet/dotnet >/dev/null
build run --isolation chroot "$container" -- ln -s /usr/share/dotnet/dotnet /usr/bin/dotnet
build commit --quiet "$container" mcr.microsoft.com/dotnet/aspnet:10.0-trixie-slim >/dev/null

# The tool that lists what is in the image is the Dockerfile's own, fetched outside; what the build left, and the packages, are mounted where the build would have them
# (the stand-in has no user's home, so the packages at the root too).
dotnet tool install Microsoft.Sbom.DotNetTool --version "$(sed -n 's/.*Microsoft.Sbom.DotNetTool --version \([0-9.]*\).*/\1/p' "$root/k8s/Dockerfile")" --tool-path "$work/tools" >"$work/tools.log" 2>&1 ||
  { cat "$work/tools.log" >&2; exit 1; }
packages=$(dotnet nuget locals global-packages --list | sed 's/^global-packages: //')

cat >"$work/dotnet" <<'E2'
#!/bin/sh
# dotnet publish and dotnet tool install as the Dockerfile calls them
while [ $# -gt 0 ]; do
  case $1 in
    --output) mkdir -p "$2" && cp -r /published/. "$2" ;;
    --tool-path) mkdir -p "$2" && cp -r /fetched/. "$2" ;;
  esac
  shift
done
E2
chmod +x "$work/dotnet"
build run --isolation chroot "$container" -- rm /usr/bin/dotnet
build add --quiet "$container" "$work/dotnet" /usr/bin/dotnet >/dev/null
build commit --quiet --rm "$container" mcr.microsoft.com/dotnet/sdk:10.0-trixie-slim >/dev/null

build bud --quiet --pull-never --isolation chroot --volume "$published:/published:ro" --volume "$work/tools:/fetched:ro" --volume "$packages:/root/.nuget/packages:ro" --volume "$packages:/.nuget/packages:ro" \
  --volume "$root/artifacts/obj:/source/artifacts/obj:ro" --volume "$root/src:$root/src:ro" --file "$root/k8s/Dockerfile" --ignorefile "$root/k8s/Dockerfile.dockerignore" \
  --build-arg REVISION=abc --tag mendcluster:test "$root" >"$work/build.log" 2>&1 || { tail -30 "$work/build.log" >&2; exit 1; }
build from --pull-never mendcluster:test
