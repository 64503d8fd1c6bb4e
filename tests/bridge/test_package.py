"""The package as a name: imported by who asks for it, and by nobody else."""

from __future__ import annotations

import subprocess
import sys

import pytest

import weft

PROGRAM = """
import sys, threading
import weft
assert not any(name.startswith("weft.bridge") for name in sys.modules)
assert weft.bridge.Portal is sys.modules["weft.bridge"].Portal
assert threading.active_count() == 1
"""


def test_import_weft_leaves_it_out():
    subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], check=True, timeout=60)


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="module 'weft' has no attribute 'bridges'"):
        _ = weft.bridges


def test_every_name_is_there_and_documented():
    assert sorted(weft.bridge.__all__) == weft.bridge.__all__
    for name in weft.bridge.__all__:
        assert (getattr(weft.bridge, name).__doc__ or "").strip(), name
