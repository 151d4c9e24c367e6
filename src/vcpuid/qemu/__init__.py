"""QEMU: from `-cpu` to the table handed to KVM_SET_CPUID2."""
