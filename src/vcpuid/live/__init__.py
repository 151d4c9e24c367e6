"""This machine: all that opens a device or starts a program."""
