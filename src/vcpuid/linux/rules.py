"""Every reason for which Linux changes a flag of the processor.

Files are under arch/x86/kernel/ unless a path says otherwise. `since` and `until` are among the releases that vcpuid has tables of.
"""

from __future__ import annotations

from vcpuid.reasons import Rule

# Reading CPUID: get_cpu_cap and what belongs to it
LEVEL = Rule(
    "linux.level",
    "the leaf is beyond the highest one that the processor reports, so Linux does not read it",
    "get_cpu_cap, cpu/common.c",
)
NOT_READ = Rule("linux.not-read", "Linux reads this leaf only on other vendors' processors", "get_cpu_cap, cpu/common.c")
CR4_OFF = Rule(
    "linux.cr4-off",
    "the bit mirrors CR4, and Linux read CPUID before it turned that on",
    "get_cpu_cap, cpu/common.c",
)
SCATTERED = Rule(
    "linux.scattered",
    "CPUID has it in a register of which Linux keeps single bits only",
    "init_scattered_cpuid_features, cpu/scattered.c",
)
SPECULATION = Rule("linux.speculation-control", "{cause} implies it", "init_speculation_control, cpu/common.c")
VIRT_SSBD = Rule(
    "linux.virt-ssbd",
    "the processor has SSBD in SPEC_CTRL, so the hypervisor's substitute is left alone",
    "init_speculation_control, cpu/common.c",
)
DEPENDS = Rule("linux.depends", "it needs {cause}, which is off", "do_clear_cpu_cap, cpu/cpuid-deps.c")
DROPPED = Rule("linux.dropped", "Linux turned it off for good earlier in boot", "apply_forced_caps, cpu/common.c")
FORCED = Rule("linux.forced", "Linux turned it on for good earlier in boot", "apply_forced_caps, cpu/common.c")
HAS_CPUID = Rule("linux.cpuid", "the processor has the CPUID instruction", "early_identify_cpu, cpu/common.c")
ALWAYS = Rule("linux.always", "set on every processor, for code patching", "early_identify_cpu, cpu/common.c")
NOPL = Rule("linux.nopl", "every 64-bit processor has NOPL", "detect_nopl, cpu/common.c")
SYSFAST = Rule("linux.sysfast32", "a 64-bit kernel has fast 32-bit system calls", "get_cpu_cap, cpu/common.c", since="7.0")
APIC_FENCE = Rule(
    "linux.apic-fence",
    "writes of x2APIC MSRs are not serializing unless the vendor says otherwise",
    "identify_cpu, cpu/common.c",
    since="5.15",
)
