"""The few statistics of the suite. Order statistics only: no assumption about the shape of the noise."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from statistics import median
from typing import NamedTuple

__all__ = ["Spread", "geometric_mean", "spread"]


class Spread(NamedTuple):
    """A median and the interval about it.

    low, high:  the narrowest pair of order statistics that holds the true median with at least 95 % probability; with
                fewer than six values there is none, and they are the smallest and the largest value
    """

    median: float
    low: float
    high: float
    minimum: float
    drawn: int


def _rank(count: int) -> int:
    """How many values may be left out at each end so that the rest still spans the true median in 95 % of cases."""
    rank, outside = -1, 0.0
    while outside <= 0.05:
        rank += 1
        # The interval misses when at most `rank` values lie on one side of the median.
        outside += 2 * comb(count, rank) / 2**count
    return max(rank - 1, 0)


def spread(values: Sequence[float]) -> Spread:
    """The spread of at least one value."""
    ordered = sorted(values)
    rank = _rank(len(ordered))
    return Spread(median(ordered), ordered[rank], ordered[-1 - rank], ordered[0], len(ordered))


def geometric_mean(values: Sequence[float]) -> float:
    """The geometric mean of at least one positive value."""
    product = 1.0
    for value in values:
        product *= value ** (1 / len(values))
    return product
