#!/usr/bin/env bash
# How strong are the tests? Changes the code in small ways, one at a time, and counts those that the tests notice (Stryker.NET).
#   bench/mutation.sh [AREA ...]   editors, ledger, coordinator, ring, safetensors or pickle; without one, all. Hours: not for CI.
# Reports go to artifacts/mutation/AREA. It writes into bin and obj of nothing but artifacts, and leaves the sources as they are.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

# AREA  PROJECT  FILES (under the project)  TESTS
areas='
editors      Engine       Editors/*.cs                                        FullyQualifiedName~.Editors.|FullyQualifiedName~MendParity|FullyQualifiedName~Factors
safetensors  Engine       Checkpoints/Safetensors.cs                          FullyQualifiedName~Safetensors|FullyQualifiedName~CheckpointFuzz
pickle       Engine       Checkpoints/Unpickler.cs                            FullyQualifiedName~Unpickler|FullyQualifiedName~TorchArchive|FullyQualifiedName~CheckpointFuzz
ledger       Distributed  Ledger/FileLedger.cs,Ledger/LedgerRecordFormat.cs   FullyQualifiedName~FileLedger|FullyQualifiedName~EditorAndLedger
coordinator  Distributed  Editing/EditCoordinator.cs                          FullyQualifiedName~EmbeddedCluster|FullyQualifiedName~Fault|FullyQualifiedName~Preview|FullyQualifiedName~Revert|FullyQualifiedName~Scope|FullyQualifiedName~Replica
ring         Distributed  Training/Ring*.cs                                   FullyQualifiedName~Ring
'

dotnet tool restore >/dev/null
while read -r area project files tests; do
  if [ -z "$area" ] || { [ $# -gt 0 ] && [[ " $* " != *" $area "* ]]; }; then continue; fi
  out=artifacts/mutation/$area
  rm -rf "$out" && mkdir -p "$out"
  mutate=$(sed 's#[^,]*#"**/&"#g' <<<"$files")
  cat >"$out/stryker.json" <<JSON
{"stryker-config": {"project": "$project.csproj", "test-projects": ["$PWD/tests/$project.Tests/$project.Tests.csproj"], "mutate": [$mutate],
 "ignore-methods": ["ConfigureAwait"], "configuration": "Release", "test-case-filter": "$tests", "reporters": ["cleartext", "json"]}}
JSON
  (cd "src/$project" && dotnet stryker -f "$OLDPWD/$out/stryker.json" --output "$OLDPWD/$out")
done <<<"$areas"
