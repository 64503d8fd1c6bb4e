"""The package as a name: imported by who asks for it, and by nobody else."""

from __future__ import annotations

import subprocess
import sys

from weft import bridge

PROGRAM = """
import sys, threading
import weft
assert not any(name.startswith("weft.bridge") for name in sys.modules)
from weft import bridge
assert weft.bridge is bridge
assert threading.active_count() == 1
"""


def test_import_weft_leaves_it_out():
    subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], check=True, timeout=60)


def test_every_name_is_there_and_documented():
    assert sorted(bridge.__all__) == bridge.__all__
    for name in bridge.__all__:
        assert (getattr(bridge, name).__doc__ or "").strip(), name
