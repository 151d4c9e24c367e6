"""What people ask of a path: a feature's fate, the guest as a whole, a verdict on a CPU, what differs; each is read off the trace."""
