"""libvirt's errors, by kind: each with its number, and the words that libvirt puts before the text (src/util/virerror.c)."""

from __future__ import annotations

from collections.abc import Sequence

from vcpuid.errors import LibvirtError

XML, QEMU, CPU = 5, 10, 31
"""Where an error comes from: VIR_FROM_XML, VIR_FROM_QEMU, VIR_FROM_CPU of virterror.h."""

DOMAIN = 20
"""VIR_FROM_DOMAIN."""


def internal(text: str, source: int = CPU) -> LibvirtError:
    """VIR_ERR_INTERNAL_ERROR."""
    return LibvirtError(1, source, f"internal error: {text}")


def invalid(text: str, source: int = CPU) -> LibvirtError:
    """VIR_ERR_INVALID_ARG."""
    return LibvirtError(8, source, f"invalid argument: {text}")


def failed(text: str, source: int = CPU, causes: Sequence[object] = ()) -> LibvirtError:
    """VIR_ERR_OPERATION_FAILED; `causes` are the features that led to it."""
    return LibvirtError(9, source, f"operation failed: {text}", causes=causes)


def malformed(text: str, source: int = CPU) -> LibvirtError:
    """VIR_ERR_XML_ERROR."""
    return LibvirtError(27, source, f"XML error: {text}")


def not_valid(text: str, source: int = QEMU) -> LibvirtError:
    """VIR_ERR_OPERATION_INVALID."""
    return LibvirtError(55, source, f"Requested operation is not valid: {text}")


def unsupported(text: str, source: int = CPU) -> LibvirtError:
    """VIR_ERR_CONFIG_UNSUPPORTED."""
    return LibvirtError(67, source, f"unsupported configuration: {text}")


def incompatible(text: str, causes: Sequence[object] = ()) -> LibvirtError:
    """VIR_ERR_CPU_INCOMPATIBLE; `causes` are the features that led to it."""
    return LibvirtError(91, CPU, f"the CPU is incompatible with host CPU: {text}", causes=causes)


def unknown_flags(flags: int, function: str) -> LibvirtError:
    """What virCheckFlags says of bits that a function does not know."""
    return LibvirtError(8, QEMU, f"unsupported flags (0x{flags:x}) in function {function}")
