"""Linux: what the host's (or the guest's) kernel makes of CPUID, and what /proc/cpuinfo prints."""
