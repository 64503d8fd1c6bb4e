"""Two sizes of the fuzz tests: the same few examples each time, and WEFT_FUZZ=10000 for as many new ones."""

from __future__ import annotations

import os

import hypothesis
import pytest

_COMMON = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(hypothesis.HealthCheck),
}
hypothesis.settings.register_profile("same", derandomize=True, max_examples=100, stateful_step_count=40, **_COMMON)
hypothesis.settings.register_profile("long", max_examples=int(os.environ.get("WEFT_FUZZ", "100")), **_COMMON)
hypothesis.settings.load_profile("long" if "WEFT_FUZZ" in os.environ else "same")


def pytest_itemcollected(item: pytest.Item) -> None:
    # Hypothesis mistakes its own generator for a lost one on 3.14, where references are counted later.
    item.add_marker(
        pytest.mark.filterwarnings("ignore:It looks like .register_random.:hypothesis.errors.HypothesisWarning")
    )
