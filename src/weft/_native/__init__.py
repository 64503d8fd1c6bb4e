"""Thin bindings to the kernel and to the interpreter; each `.pyx` has a plain twin of the same few names."""
