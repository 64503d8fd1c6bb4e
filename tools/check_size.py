"""Files stay small enough to be read: over 400 lines is told, over 700 fails.

A file over 700 needs a written reason in its first 20 lines: a comment `# More than 700 lines: <why>`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOFT, HARD = 400, 700
SUFFIXES = {".py", ".pyx", ".pxd", ".pyi", ".c", ".h"}
EXCUSE = "# More than 700 lines: "


def tracked_files() -> list[Path]:
    """What git knows of or would add; every file of the tree where there is no git (an unpacked sdist)."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, capture_output=True, text=True, check=False)
    if listing.returncode == 0:
        return [ROOT / line for line in listing.stdout.splitlines()]
    return [path for room in ("src", "tests", "tools", "examples", "benchmarks") for path in (ROOT / room).rglob("*")]


def main() -> int:
    failed = 0
    for path in sorted(path for path in tracked_files() if path.suffix in SUFFIXES and path.is_file()):
        lines = path.read_text(encoding="utf-8").splitlines()
        excused = any(line.startswith(EXCUSE) and len(line) > len(EXCUSE) for line in lines[:20])
        if len(lines) > SOFT:
            verdict = "over the soft cap" if len(lines) <= HARD else "excused" if excused else "TOO LONG"
            print(f"check_size: {path.relative_to(ROOT)}: {len(lines)} lines, {verdict}")
            failed += verdict == "TOO LONG"
    if failed:
        print(
            f"check_size: {failed} file(s) over {HARD} lines: split them, or say why not (`{EXCUSE}…`)", file=sys.stderr
        )
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
