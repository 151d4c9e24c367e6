"""Where snapshots come from and go to: this machine's processor and KVM, and files."""
