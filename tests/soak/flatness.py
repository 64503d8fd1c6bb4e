"""Whether a series of sizes stays flat.

The resident size goes up and down by whole MiB from sample to sample, so no single sample is looked at: the run after
its warm-up is cut in two halves, each half in windows, and the smallest of each window stands for it. It grows if the lower
half of the late windows lies above the lower half of the early ones by more than the slack.
"""

from __future__ import annotations

from collections.abc import Sequence

WARM_UP = 0.25
WINDOWS = 4


def growth(samples: Sequence[float]) -> float:
    """By how much the second half after the warm-up lies above the first, in the samples' unit."""
    warm = list(samples[int(len(samples) * WARM_UP) :])
    half = len(warm) // 2
    if half < WINDOWS:
        raise ValueError(f"{len(samples)} samples are too few to judge: {WINDOWS * 2 + 4} at least")
    return _floor(warm[half:]) - _floor(warm[:half])


def _floor(samples: Sequence[float]) -> float:
    """The mean of the lower half of the windows' minima."""
    size = len(samples) // WINDOWS
    minima = sorted(min(samples[start : start + size]) for start in range(0, size * WINDOWS, size))
    lower = minima[: WINDOWS // 2]
    return sum(lower) / len(lower)
