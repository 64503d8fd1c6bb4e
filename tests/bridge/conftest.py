"""What the tests of bridges share."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator

import pytest

HELPERS = (
    ("multiprocessing.forkserver", "_forkserver"),
    ("multiprocessing.resource_tracker", "_resource_tracker"),
    ("loky.backend.resource_tracker", "_resource_tracker"),
)


@pytest.fixture(scope="module", autouse=True)
def no_child_is_left() -> Iterator[None]:
    """Pools of processes start a helper that lives as long as this process. Tests of other packages count children."""
    yield
    left = multiprocessing.active_children()
    for process in left:
        # It has the helpers' pipes: they would not end before it.
        process.kill()
        process.join()
    # There is no public way to end them.
    for name, helper in HELPERS:
        if name in sys.modules:
            getattr(sys.modules[name], helper)._stop()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert not left, "workers were left behind"
