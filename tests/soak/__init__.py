"""A long mixed load whose memory and descriptors must stay flat: `python -m tests.soak --minutes 10`."""
