#!/usr/bin/env bash
# Will the kit work on this machine? One minute: what is here, whether TorchSharp's library finds its symbols in the libtorch here, and whether it
# computes on the device what it computes on the CPU. Wants artifacts/gpu/kit.tar.xz (pack.sh makes it).
#   bench/gpu/probe.sh [cuda | cpu]     LIBTORCH=DIR: the libtorch in DIR/lib, instead of that of python3's torch
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. bench/gpu/common.sh
device=${1:-cuda}

describe_machine
unpack_kit
find_libtorch
check_symbols
step "writing 2 GB"
for folder in /dev/shm /tmp; do
  echo "$folder: $(dd if=/dev/zero of=$folder/mend-probe bs=16M count=128 conv=fsync 2>&1 | tail -1)"
  rm -f $folder/mend-probe
done
step "TorchSharp over that libtorch, on $device"
"$kit/MendCluster.Bench" gpu probe "$device"
status=$?
if [ "$device" != cpu ]; then
  step "the same libtorch in Python"
  python3 - <<'PYTHON'
import time, torch
print(torch.__version__, torch.cuda.get_device_name(), torch.cuda.get_device_properties(0))
def best(work, rounds=5):
    times = []
    for _ in range(rounds):
        torch.cuda.synchronize(); start = time.perf_counter()
        work()
        torch.cuda.synchronize(); times.append(time.perf_counter() - start)
    return min(times)
host = torch.randn(256 << 20); pinned = host.pin_memory(); there = host.cuda()
print(f"host to device {host.nbytes / best(lambda: there.copy_(host)) / 1e9:.1f} GB/s, pinned {host.nbytes / best(lambda: there.copy_(pinned)) / 1e9:.1f} GB/s; "
      f"device to device {2 * host.nbytes / best(there.clone) / 1e9:.0f} GB/s read and written")
for dtype in (torch.bfloat16, torch.float32):
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=dtype) for _ in range(2))
    print(f"8192 x 8192 x 8192 {dtype}: {2 * 8192 ** 3 / best(lambda: a @ b) / 1e12:.0f} TFLOP/s")
PYTHON
fi
step "end, status $status"
exit $status
