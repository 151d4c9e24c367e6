"""Guests and programs as they run: the CPUIDs that they execute, and what the kernel knows of a running vCPU."""
