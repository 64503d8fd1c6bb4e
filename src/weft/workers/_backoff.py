"""How long a slot waits before it starts its next worker. No clock here: times come in and go out as numbers."""

from __future__ import annotations

__all__ = ["Backoff"]

FIRST_S = 0.1
LIMIT_S = 10.0
#: A worker that lived this long did not fail at its start.
STABLE_S = 5.0


class Backoff:
    """The restarts of one slot."""

    __slots__ = ("failures",)

    def __init__(self) -> None:
        #: Workers in a row that died young.
        self.failures = 0

    def after(self, lived_s: float) -> float:
        """Seconds to wait, after a worker died at this age: none for an old one, else twice as long each time."""
        if lived_s >= STABLE_S:
            self.failures = 0
            return 0.0
        self.failures += 1
        return float(min(LIMIT_S, FIRST_S * 2 ** min(self.failures - 1, 30)))
