# What probe.sh and run.sh share. Sourced in the repository's root.
set -uo pipefail
kit=artifacts/gpu/kit
began=$(date +%s)
export DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1

step() { echo; echo "== $(($(date +%s) - began)) s: $*"; }

describe_machine() {
  step "machine"
  nvidia-smi -L 2>&1 || true
  nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used --format=csv,noheader 2>/dev/null || true
  grep -m1 'model name' /proc/cpuinfo
  echo "$(nproc) cores; $(. /etc/os-release && echo "$PRETTY_NAME"); $(ldd --version | sed -n 1p)"
  free -g | sed -n 1,2p
  df -h / /tmp /dev/shm 2>/dev/null
  local tool
  for tool in xz zstd gzip c++filt nvcc; do echo "$tool: $(command -v $tool || echo no)"; done
  python3 - <<'PYTHON'
import importlib.metadata, sys
print("python", sys.version.split()[0])
for name in ("torch", "transformers", "safetensors"):
    try: print(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError: print(name, "no")
PYTHON
}

# tar may lack xz on a bare machine; Python reads it by itself.
unpack_kit() {
  step "unpack"
  [ -f $kit.tar.xz ] || { echo "$kit.tar.xz is not here: bench/gpu/pack.sh makes it, where the .NET SDK is" >&2; exit 1; }
  [ $kit -nt $kit.tar.xz ] && return
  rm -rf $kit && mkdir -p $kit
  if command -v xz >/dev/null; then tar -C $kit -xJf $kit.tar.xz; else python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2], filter="tar")' $kit.tar.xz $kit; fi ||
    { echo "$kit.tar.xz could not be unpacked" >&2; exit 1; }
  touch $kit
}

# Sets LIBTORCH, which our programs read.
find_libtorch() {
  step "libtorch"
  if [ -z "${LIBTORCH:-}" ]; then
    LIBTORCH=$(python3 -c 'import importlib.util; print(importlib.util.find_spec("torch").submodule_search_locations[0])' 2>/dev/null) ||
      { echo "python3 has no torch: set LIBTORCH to a folder with libtorch (2.10 or newer) in lib" >&2; exit 1; }
  fi
  [ -f "$LIBTORCH/lib/libtorch_cpu.so" ] || { echo "LIBTORCH=$LIBTORCH has no lib/libtorch_cpu.so" >&2; exit 1; }
  export LIBTORCH
  echo "$LIBTORCH"
  ls -L "$LIBTORCH/lib" | tr '\n' ' '; echo
}

# TorchSharp's library was built for libtorch 2.10. What it asks for and this one lacks would fail only when it is called: say it now.
check_symbols() {
  step "symbols of libLibTorchSharp.so"
  local said; said=$(LD_LIBRARY_PATH=$LIBTORCH/lib ldd -r $kit/libLibTorchSharp.so 2>&1)
  echo "$said" | grep 'not found' | grep -v 'weak version' || true
  local missing; missing=$(echo "$said" | sed -nE 's/^undefined symbol:? ([^ ,]+).*libLibTorchSharp.so.*/\1/p' | sort -u)
  if [ -z "$missing" ]; then echo "all resolve"; return; fi
  echo "$(echo "$missing" | wc -l) do not resolve; calls that need them end in an error of the loader:"
  if command -v c++filt >/dev/null; then echo "$missing" | c++filt; else echo "$missing"; fi
}
