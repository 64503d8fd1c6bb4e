"""The states of a TLS connection, in the order in which it goes through them; see `connection`."""

from __future__ import annotations

UNWRAPPED = 0
HANDSHAKE = 1
WRAPPED = 2
FLUSHING = 3
SHUTDOWN = 4

NAMES = ("unwrapped", "handshake", "open", "closing", "shutdown")
