"""Thin bindings: each module is a `.pyx` and, under the same name, a plain twin; nothing here imports the rest of Weft."""
