#!/usr/bin/env bash
# Builds Firecracker's own CPUID code into a program that answers for hosts played to it: see README.md.
#   build.sh GITDIR REVISION CRATES OUT      GITDIR is a clone of Firecracker, CRATES a folder of crates as Debian lays them out
set -euo pipefail
git=$1 revision=$2 crates=$(realpath "$3") out=$4
here=$(dirname "$(realpath "$0")")
sources=$revision:src/vmm/src
mkdir -p "$out/.cargo"
rm -rf "$out/src"
mkdir -p "$out/src/cpu_config" "$out/src/arch/x86_64/generated"
git -C "$git" archive "$sources/cpu_config" | tar x -C "$out/src/cpu_config"
git -C "$git" show "$sources/arch/x86_64/cpu_model.rs" >"$out/src/arch/x86_64/cpu_model.rs"
index=$(git -C "$git" ls-tree -r --name-only "$sources" | grep 'x86.*/msr_index\.rs$')
git -C "$git" show "$sources/$index" >"$out/src/arch/x86_64/generated/msr_index.rs"
# The only change to Firecracker's files: where they execute CPUID, they ask the host that is played.
find "$out/src" -name '*.rs' -exec sed -i \
  -e 's/std::arch::x86_64::__cpuid_count(/crate::host::cpuid_count(/' \
  -e 's/std::arch::x86_64::__get_cpuid_max(/crate::host::cpuid_max(/' \
  -e 's/use std::arch::x86_64::__cpuid as host_cpuid;/use crate::host::cpuid as host_cpuid;/' {} +
cp "$here/src/main.rs" "$out/src/main.rs"
cp "$here/Cargo.toml" "$out/Cargo.toml"
printf '[source.crates-io]\nreplace-with = "debian"\n[source.debian]\ndirectory = "%s"\n[build]\nrustflags = ["--cap-lints=allow", "-Awarnings"]\n' \
  "$crates" >"$out/.cargo/config.toml"
features=()
if grep -q 'fn apply_template_to_cpuid' "$out/src/cpu_config/x86_64/mod.rs"; then features+=(staged); fi
(cd "$out" && cargo build --offline --release --quiet --features "${features[*]-}")
echo "$out/target/release/firecracker-cpuid"
