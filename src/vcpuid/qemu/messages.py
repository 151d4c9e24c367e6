"""What QEMU prints of a guest's CPU: each text as a template that both prints it and finds what stands in it.

The texts are QEMU's own, without the program's name, its option and the word "warning"; files and functions are named where they are
printed. A field is `{name}` for any text without a line end, `{name:s}` for a word without a dot, `{name:d}` for a number and `{name:x}`
for a hexadecimal one. A feature is spelled as `FeatureWord.describe` does, which `vcpuid.cpuid.parse_bit` reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from string import Formatter

_FIELDS = {"": r"[^\n]{0,400}?", "s": r"[^\s.]{1,100}", "d": r"-?[0-9]{1,20}", "x": r"[0-9a-f]{1,16}"}
"""What a field matches, by its format."""

_LONGEST = 2000
"""Characters of a text that may be a message: one with fields of the greatest length."""


class Message:
    """One text of QEMU's. Calling it with its fields prints it."""

    def __init__(self, template: str) -> None:
        self.template = template

    def __call__(self, **fields: object) -> str:
        """Print the message with its fields."""
        return self.template.format(**fields)

    def __repr__(self) -> str:
        return f"Message({self.template!r})"

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        named: set[str] = set()
        parts = []
        for literal, name, spec, _ in Formatter().parse(self.template):
            parts.append(re.escape(literal))
            if name is not None:
                parts.append(f"(?P={name})" if name in named else f"(?P<{name}>{_FIELDS[spec or '']})")
                named.add(name)
        return re.compile("".join(parts))

    def match(self, text: str) -> dict[str, str] | None:
        """Return what stands in each field where the whole of a text is this message, else None."""
        found = self._pattern.fullmatch(text)
        return None if found is None else found.groupdict()


# Features that the guest does not get: mark_unavailable_features and its callers, target/i386/cpu.c
HOST_LACKS = Message("host doesn't support requested feature: {feature}")
NOT_REQUESTED = Message("This feature depends on other features that were not requested: {feature}")
CONFLICTS = Message("this feature conflicts with {other}: {feature}")
PT_NEEDS_LEVEL_SIGNED = Message('Intel PT need CPUID leaf 0x14, please set by "-cpu ...,+intel-pt,min-level=0x14": {feature}')
PT_NEEDS_LEVEL = Message('Intel PT need CPUID leaf 0x14, please set by "-cpu ...,intel-pt=on,min-level=0x14": {feature}')
AVX10_LACKING = Message("host doesn't support requested feature: avx10.{version:d}.")
AVX10_ADJUSTED = Message("host doesn't support requested feature: avx10.{version:d}. Adjust to avx10.{given:d}")
ENFORCED = Message("Host doesn't support requested features")
VPMU = Message("host doesn't support requested feature: vPMU")
AMD_PMU = Message("AMD performance-monitoring is supported from K7 and later")

# Properties of the CPU that the host or another property contradicts: x86_cpu_realizefn and host-cpu.c, target/i386
HOST_BITS_DIFFER = Message("Host physical bits ({host:d}) does not match phys-bits property ({asked:d})")
PHYS_BITS_LOW = Message("phys-bits should be at least {least:d} (but is {asked:d})")
PHYS_BITS_RANGE = Message("phys-bits should be between {least:d} and {most:d}  (but is {asked:d})")
GUEST_BITS_RANGE = Message("guest-phys-bits should be between {least:d} and {most:d}  (but is {asked:d})")
PHYS_BITS_32 = Message("phys-bits is not user-configurable in 32 bit")
GUEST_BITS_32 = Message("guest-phys-bits is not user-configurable in 32 bit")
SPACE_LOW = Message("Address space limit 0x{limit:x} < 0x{used:x} phys-bits too low ({asked:d})")
TOPOLOGY_ABORT = Message("cpu_x86_cpuid: Assertion `!(*eax & ~0x1f)' failed.")  # target/i386/cpu.c: builds differ in the line before
PHYS_BITS_ABORT = Message("target/i386/kvm/kvm.c:{line:d}: kvm_get_msrs: Assertion `cpu->phys_bits <= 52' failed.")
NO_LEGACY_CACHE = Message("CPU model '{model}' doesn't support legacy-cache=off")
VENDOR_ONLY = Message("x-vendor-cpuid-only-v2 property depends on x-vendor-cpuid-only")
LBR_WITHOUT_PMU = Message("vPMU: LBR is unsupported without pmu=on")
LBR_FORMAT = Message("vPMU: the lbr-fmt value (0x{asked:x}) does not match the host value (0x{host:x}).")
NO_HYPERTHREADING = Message("This family of AMD CPU doesn't support hyperthreading({threads:d})")
TRY_TOPOEXT = Message("Please configure -smp options properly or try enabling topoext feature.")
NO_HYPERTHREADING_TRY = Message(f"{NO_HYPERTHREADING.template}. {TRY_TOPOEXT.template}")

# The -cpu argument and its properties: x86_cpu_parse_featurestr, target/i386/cpu.c, and the setters, qom/ and hw/core/qdev-properties.c
EMPTY_CPU = Message("-cpu option cannot be empty")
NO_MODEL = Message("unable to find CPU model '{name}'")
DEPRECATED_MODEL = Message("CPU model {type:s} is deprecated -- {note}")
AMBIGUOUS = Message('Ambiguous CPU model string. Don\'t mix both "{sign}{name}" and "{name}={value}"')
AMBIGUOUS_OUTLOOK = Message("Compatibility of ambiguous CPU model strings won't be kept on future QEMU versions")
GLOBAL = Message("can't apply global {type:s}.{property}={value}: {cause}")
NO_PROPERTY = Message("Property '{type}.{name}' not found")
READ_ONLY = Message("Property '{type}.{name}' is not writable")
NOT_PERMITTED = Message("Insufficient permission to perform this operation")
BAD_NUMBER = Message("bad numerical value {text}")
NOT_ACCEPTED = Message("Parameter '{name}' does not accept value '{value}'")
VALUE_INVALID = Message("Invalid parameter '{value}'")
EXPECTS = Message("Parameter '{name}' expects {what}")
OUT_OF_RANGE = Message("Value '{value}' is out of range for parameter '{name}'")
EXPECTED_TYPE = Message("Invalid parameter type for '{name}', expected: {what}")
NO_DEVICE = Message("Device '{name}' not found")
VALUE_REFUSED = Message("Property '.{name}' doesn't take value '{value}'")
NUMBER_REFUSED = Message("Property .{name} doesn't take value {value:d} (minimum: 0, maximum: {most:d})")
TOO_MUCH = Message("parameter '{name}' can be at most {most:d}")
LENGTH = Message("value of property '{name}' must consist of exactly {length:d} characters")
LBR_MASK = Message("Property value for 'lbr-fmt' has bits outside mask '0x{mask:x}'")
AVX10_NEWEST = Message("avx10-version can be at most {most:d}")

# -machine and -smp: hw/core/machine.c and machine-smp.c, hw/core/cpu
NO_MACHINE_AT = Message("-M {text}: unsupported machine type\nUse -machine help to list supported machines")
NO_MACHINE = Message("unsupported machine type\nUse -machine help to list supported machines")
NO_MACHINE_NAMED = Message('unsupported machine type: "{name}"\nUse -machine help to list supported machines')
MACHINE_NO_EQUALS = Message("-M {text}: Expected '=' after parameter '{key}'")
MACHINE_PARAMETER = Message("-M {text}: Invalid parameter '{key}'")
MACHINE_MISSING = Message("-M {text}: Parameter '{key}' missing")
MACHINE_LONG = Message("-M {text}: Parameter{part} '{key}' is too long")
MACHINE_MIXED = Message("-M {text}: Parameters '{key}.*' used inconsistently")
OPTION_UNKNOWN = Message("-{option:s} {text}: Invalid parameter '{name}'")
OPTION_NO_NUMBER = Message("-{option:s} {text}: Parameter '{name}' expects a number")
OPTION_TOO_LARGE = Message("-{option:s} {text}: Value '{value}' is too large for parameter '{name}'")
FLAG_DEPRECATED = Message("-{option:s} {text}: short-form boolean option '{name}' deprecated")
FLAG_INSTEAD = Message("Please use {name}={value} instead")
CONFLICT = Message("Conflict between '{key}' and '{other}'")
ISAPC_CPU = Message("cpu type {type} is deprecated for isapc machine")
NITRO = Message("The 'nitro' machine requires -accel nitro")
SMP_NO_EQUALS = Message("-smp {text}: Expected '=' after parameter '{key}'")
SMP_UNEXPECTED = Message("Parameter 'smp.{key}' is unexpected")
SMP_INTEGER = Message("Parameter 'smp.{key}' expects integer")
SMP_ZERO = Message("Invalid CPU topology: CPU topology parameters must be greater than zero")
SMP_ZERO_DEPRECATED = Message("Deprecated CPU topology (considered invalid): CPU topology parameters must be greater than zero")
SMP_LEVEL = Message("{level} not supported by this machine's CPU topology")
SMP_LEVEL_DEPRECATED = Message("Deprecated CPU topology (considered invalid): Unsupported {level} parameter mustn't be specified as 1")
SMP_LEVEL_COUNT = Message("{level} > 1 not supported by this machine's CPU topology")
SMP_PRODUCT = Message("Invalid CPU topology: product of the hierarchy must match maxcpus: {layout} != maxcpus ({most:d})")
SMP_TOO_MANY = Message(
    "Invalid CPU topology: maxcpus must be equal to or greater than smp: {layout} == maxcpus ({most:d}) < smp_cpus ({cpus:d})"
)
SMP_FEW = Message("cpu topology: {layout} < smp_cpus ({cpus:d})")
SMP_MAXCPUS = Message("maxcpus must be equal to or greater than smp")
SMP_NOT_ALL = Message("Invalid CPU topology: {layout} != maxcpus ({most:d})")
SMP_NOT_ALL_DEPRECATED = Message("Invalid CPU topology deprecated: {layout} != maxcpus ({most:d})")
SMP_LEAST = Message("Invalid SMP CPUs 0. The min CPUs supported by machine '{machine}' is 1")
SMP_LIMIT = Message("Invalid SMP CPUs {cpus:d}. The max CPUs supported by machine '{machine}' is {most:d}")

SMP_CACHE_TWICE = Message("Invalid cache properties: {cache:s}. The cache properties are duplicated")
SMP_CACHE_UNSUPPORTED = Message("{cache:s} cache topology not supported by this machine")
SMP_CACHE_THREAD = Message("{level:s} level cache not supported by this machine")
SMP_CACHE_LEVEL = Message("Invalid topology level: {level:s}. The topology level is not supported by this machine")
SMP_CACHE_ORDER = Message("Invalid smp cache topology. {upper:s} cache topology level shouldn't be lower than {lower:s} cache")
PARAMETER_MISSING = Message("Parameter '{key}' is missing")
PARAMETER_UNEXPECTED = Message("Parameter '{key}' is unexpected")
PARAMETERS_UNEXPECTED = Message("Parameters '{key}.*' are unexpected")

# Interrupt controllers and the place of each vCPU: hw/i386/x86-common.c (x86.c), target/i386/cpu-apic.c, hw/intc/apic.c, hw/core/numa.c
EIM_NEEDED = Message(
    "current -smp configuration requires Extended Interrupt Mode enabled. "
    "You can add an IOMMU using: -device intel-iommu,intremap=on,eim=on"
)
KERNEL_IRQCHIP_NEEDED = Message("current -smp configuration requires kernel irqchip support.")
IRQCHIP_NEEDED = Message("current -smp configuration requires kernel irqchip and X2APIC API support.")
NO_USER_APIC = Message("KVM does not support userspace APIC")
USER_APIC = Message("Userspace local APIC is deprecated for KVM.")
USER_APIC_ISAPC = Message("Do not use kernel-irqchip except for the -M isapc machine type.")
PLACE = Message("property {level:s}-id: {asked:d} doesn't match set apic-id: 0x{apic:x} ({level:s}-id: {given:d})")
NODE = Message("invalid node-id, must be {node:d}")

# Hyper-V: hyperv_feature_supported and its like, target/i386/kvm/kvm.c
HYPERV_VENDOR_CUT = Message("hv-vendor-id truncated to {length:d} characters")
HYPERV_VP_INDEX = Message("kernel doesn't allow setting HyperV VP_INDEX")
HYPERV_LACKS = Message("Hyper-V {title} is not supported by kernel")
HYPERV_NEEDS = Message("Hyper-V {title} requires Hyper-V {needed}")

# Setting up a vCPU: kvm_arch_init_vcpu, target/i386/kvm/kvm.c, and kvm_init_vcpu, accel/kvm/kvm-all.c
MANY_CPUS = Message("Number of {what} cpus requested ({asked:d}) exceeds the recommended cpus supported by KVM ({most:d})")
TSC_MISMATCH = Message("TSC frequency mismatch between VM ({asked:d} kHz) and host ({host:d} kHz), and TSC scaling unavailable")
VCPU_UNSUPPORTED = Message("kvm_init_vcpu: kvm_arch_init_vcpu failed (0): Operation not supported")
NO_EVMCS = Message("Hyper-V enlightened VMCS (hv-evmcs) is not supported by kernel\nkvm_init_vcpu: kvm_arch_init_vcpu failed (0): {reason}")
NO_ENFORCE_CPUID = Message(
    "failed to enable KVM_CAP_HYPERV_ENFORCE_CPUID: Invalid argument\nkvm_init_vcpu: kvm_arch_init_vcpu failed (0): Invalid argument"
)
HYPERV_NO_SYNIC = Message("failed to turn on HyperV SynIC in KVM: {reason}\nkvm_init_vcpu: kvm_arch_init_vcpu failed (0): {reason}")
FIRMWARE_FILE = Message("Unknown firmware file in legacy mode: {file:s}")  # hw/nvram/fw_cfg.c
VCPU_FAILED = Message("kvm_init_vcpu: kvm_arch_init_vcpu failed (0): {reason}")
MSR_REFUSED = Message("error: failed to set MSR 0x{msr:x} to 0x{value:x}")
NO_LMCE = Message("kvm: LMCE not supported\nkvm_init_vcpu: kvm_arch_init_vcpu failed (0): Operation not supported")
TABLE_FULL = Message("cpuid_data is full, no space for cpuid(eax:0x{function:x},ecx:0x{index:x})")
XLEVEL2 = Message("unsupported xlevel2 value: 0x{value:x}")

MESSAGES: dict[str, Message] = {name: value for name, value in globals().items() if isinstance(value, Message)}
"""All of them by name, the particular ahead of the general where both would match."""


def recognise(text: str, among: Mapping[str, Message] = MESSAGES) -> Iterator[tuple[str, dict[str, str]]]:
    """Give each message that a text can be, by name, with what stands in its fields; `text` is without program and "warning: ".

    A text that is longer than QEMU's are is none.
    """
    if len(text) > _LONGEST:
        return
    for name, message in among.items():
        fields = message.match(text)
        if fields is not None:
            yield name, fields


_OF_THE_HOST = ("host", "given")
"""Fields that hold what the host has, and not what was asked for."""

_SPECIFIC = {name: message for name, message in MESSAGES.items() if any(f"{{{field}" in message.template for field in _OF_THE_HOST)}


def unspecific(text: str) -> str:
    """Put a question mark for what is the host's in a text; one that is none of QEMU's stays as it is."""
    for name, fields in recognise(text, _SPECIFIC):
        shown = {**fields, **dict.fromkeys(_OF_THE_HOST, "?")}
        parts = Formatter().parse(MESSAGES[name].template)
        return "".join(literal + ("" if field is None else shown[field]) for literal, field, _, _ in parts)
    return text
