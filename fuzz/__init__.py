"""Fuzzing that stays: hostile input, made at random and reproducibly, against everything that vcpuid takes from outside.

`make fuzz` runs every target for a bounded time; CONTRIBUTING.md says how a find is read, replayed and turned into a case. A target makes
inputs from a seed and a number and says what each comes to (`targets/`); one runner works through them (`campaign`), under limits of time
and memory (`limits`), in a process of its own (`supervise`), makes a find small (`minimise`) and keeps it (`finds`).
"""
