"""KVM: what it says it supports, what it keeps of the table it is given, what the guest's CPUID instruction reads."""
