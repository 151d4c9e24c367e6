"""BPF from Python alone: instructions assembled here, maps, programs and links by bpf(2) and perf_event_open(2), without a compiler.

Whoever holds a map, a program, a link or an event holds a descriptor and nothing else: nothing is pinned, so the kernel takes all of it
back when the process ends, in whichever way it does.
"""
