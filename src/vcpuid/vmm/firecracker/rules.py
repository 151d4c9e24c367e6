"""Why a bit of Firecracker's table is not KVM's: one row a reason. Sources are below src/vmm/src of Firecracker's repository."""

from __future__ import annotations

from vcpuid.reasons import Rule

_CONFIG = "cpu_config/x86_64"
_COMMON = f"{_CONFIG}/cpuid/normalize.rs"
_INTEL = f"{_CONFIG}/cpuid/intel/normalize.rs"
_AMD = f"{_CONFIG}/cpuid/amd/normalize.rs"
_VCPUS = "change the machine configuration's vcpu_count and smt"

AMX_PERMISSION = Rule(
    "firecracker.amx-permission",
    "Firecracker asks Linux for the permission to use AMX before it asks KVM, which hides AMX from processes without it",
    "request_dynamic_xstate_features, arch/x86_64/xstate.rs",
    since="1.12",
)
TEMPLATE = Rule(
    "firecracker.template",
    "the CPU template says so",
    f"apply_template_to_cpuid, {_CONFIG}/mod.rs",
    remedy="use a template that leaves the bit to the host (x)",
)
TEMPLATE_MSR = Rule(
    "firecracker.template.msr",
    "the CPU template says so",
    f"apply_template_to_msrs, {_CONFIG}/mod.rs",
    remedy="use a template that leaves the bit to the host (x)",
)
MSR_BOOT = Rule(
    "firecracker.msr.boot",
    "Firecracker sets this MSR for the guest's boot, whatever the template says",
    "create_boot_msr_entries, arch/x86_64/msr.rs",
)
MSR_HIDDEN = Rule(
    "firecracker.msr.hidden",
    "the guest's CPUID does not announce this MSR",
    "KVM: guest_cpuid_has in kvm_get_msr_common, arch/x86/kvm/x86.c",
)
MSR_EARLY = Rule(
    "firecracker.msr.early",
    "Firecracker reads the MSR before it sets the CPUID that tells of it: since Linux 6.13 it then reads zero, and the bits that the "
    "template leaves alone become zero",
    f"CpuConfiguration::new, {_CONFIG}/mod.rs",
    remedy="use a Firecracker after 1.16, or a template that sets every bit of the MSR",
    until="1.16",
)

VENDOR = Rule("firecracker.vendor", "the maker is the host's, whatever the template says", f"update_vendor_id, {_COMMON}")
CLFLUSH = Rule("firecracker.clflush", "Firecracker tells a cache line of 64 bytes", f"update_feature_info_entry, {_COMMON}")
PACKAGE_IDS = Rule(
    "firecracker.package-ids",
    "as many APIC IDs as there are vCPUs, rounded up to a power of two",
    f"update_feature_info_entry, {_COMMON}",
    remedy=_VCPUS,
)
APIC_ID = Rule("firecracker.apic-id", "a vCPU's APIC ID is its number", f"update_feature_info_entry, {_COMMON}")
PDCM = Rule("firecracker.pdcm", "Firecracker gives no performance counters", f"update_feature_info_entry, {_COMMON}")
TSC_DEADLINE = Rule("firecracker.tsc-deadline", "the APIC that KVM emulates has such a timer", f"update_feature_info_entry, {_COMMON}")
HYPERVISOR = Rule("firecracker.hypervisor", "Firecracker tells each guest that it is one", f"update_feature_info_entry, {_COMMON}")
HTT = Rule("firecracker.htt", "on where there is more than one vCPU, else off", f"update_feature_info_entry, {_COMMON}", remedy=_VCPUS)
TOPOLOGY = Rule(
    "firecracker.topology",
    "one package: a core of one thread, or of two with smt, and room for 32 vCPUs",
    f"update_extended_topology_entry, {_COMMON}",
    remedy=_VCPUS,
)
FIRST_LEVEL = Rule(
    "firecracker.cache.first-level", "the L1 caches and TLBs are those of the host's CPUID", f"update_extended_cache_features, {_COMMON}"
)
SECOND_LEVEL = Rule(
    "firecracker.cache.second-level",
    "the L2 and L3 caches and TLBs are those of the host's CPUID, without its reserved bits",
    f"update_extended_cache_features, {_COMMON}",
)

CACHE_SHARING = Rule(
    "firecracker.cache.sharing",
    "L1 and L2 belong to a core, L3 to all vCPUs, and all cores to one package",
    f"update_deterministic_cache_entry, {_INTEL}",
    remedy=_VCPUS,
)
TURBO = Rule("firecracker.turbo", "guests do not choose frequencies", f"update_power_management_entry, {_INTEL}")
EPB = Rule("firecracker.epb", "guests do not choose frequencies", f"update_power_management_entry, {_INTEL}")
FDP_EXCPTN_ONLY = Rule(
    "firecracker.fdp-excptn-only", "KVM's documentation asks VMMs to set it", f"update_extended_feature_flags_entry, {_INTEL}"
)
ZERO_FCS_FDS = Rule("firecracker.zero-fcs-fds", "KVM's documentation asks VMMs to set it", f"update_extended_feature_flags_entry, {_INTEL}")
WAITPKG = Rule(
    "firecracker.waitpkg",
    "UMWAIT and TPAUSE would put the host's processor to rest",
    f"update_extended_feature_flags_entry, {_INTEL}",
    since="1.12",
)
PMU = Rule("firecracker.pmu", "Firecracker gives no performance counters", f"update_performance_monitoring_entry, {_INTEL}")
TOPOLOGY_V2 = Rule(
    "firecracker.topology.v2", "leaf 0x1F is a copy of leaf 0xB", f"update_extended_topology_v2_entry, {_INTEL}", since="1.12"
)
BRAND_INTEL = Rule(
    "firecracker.brand.intel",
    "the name is Intel(R) Xeon(R) Processor, with the frequency that the host's name tells",
    f"default_brand_string, {_INTEL}",
)

CACHE_AMD = Rule("firecracker.cache.amd", "the caches are those of the host's CPUID", f"passthrough_cache_topology, {_AMD}")
CACHE_SHARING_AMD = Rule(
    "firecracker.cache.sharing-amd",
    "L1 and L2 belong to a core, L3 to all vCPUs",
    f"update_extended_cache_topology_entry, {_AMD}",
    remedy=_VCPUS,
)
EXTENDED_ID_HOST = Rule(
    "firecracker.extended-id.host", "the leaf is the host's, but for the vCPU's own IDs", f"passthrough_cache_topology, {_AMD}"
)
EXTENDED_ID = Rule(
    "firecracker.extended-id",
    "the APIC ID is the vCPU's number, the core's is counted from 0, and there is one node",
    f"update_extended_apic_id_entry, {_AMD}",
    remedy=_VCPUS,
)
ARCH_CAPABILITIES = Rule(
    "firecracker.arch-capabilities",
    "AMD's processors have no such MSR; KVM offers one of its own",
    f"update_structured_extended_entry, {_AMD}",
)
LAST_EXTENDED = Rule(
    "firecracker.last-extended",
    "Firecracker calls 0x8000001F the last extended leaf, whatever KVM has",
    f"update_largest_extended_fn_entry, {_AMD}",
    remedy="use Firecracker 1.11 or newer",
    until="1.10",
)
TOPOEXT = Rule(
    "firecracker.topoext",
    "Firecracker fills the leaves of caches and IDs that this bit tells of",
    f"update_extended_feature_fn_entry, {_AMD}",
)
THREADS_AMD = Rule(
    "firecracker.threads-amd",
    "as many threads as there are vCPUs, and 7 bits of APIC ID",
    f"update_amd_feature_entry, {_AMD}",
    remedy=_VCPUS,
)
BRAND_AMD = Rule("firecracker.brand.amd", "the name is AMD EPYC", f"update_brand_string_entry, {_AMD}")
