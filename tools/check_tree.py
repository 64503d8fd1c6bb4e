"""Nothing built lies beside a source: a `.so` beside an edited `.py` would hide the edit."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("src", "tests", "tools", "examples", "benchmarks")
BUILT = {".so", ".pyd", ".o", ".c", ".cpp", ".html"}
# A hand-written C program (a load generator) is a source when it lies under benchmarks/; Cython's output never is.
SOURCES_IN_C = ("benchmarks",)


def main() -> int:
    built = [
        path.relative_to(ROOT)
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.suffix in BUILT and not (path.suffix in {".c", ".html"} and room in SOURCES_IN_C)
    ]
    for path in built:
        print(f"check_tree: {path} was built in the source tree: remove it", file=sys.stderr)
    return 1 if built else 0


if __name__ == "__main__":
    raise SystemExit(main())
