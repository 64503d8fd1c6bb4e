"""The hot ring: callbacks, timers, turns, futures and tasks. No I/O, no threads, no operating system."""
