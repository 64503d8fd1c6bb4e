"""sdist and wheels by one command, and the proof that they install: `make wheels`.

1. An sdist of the tree, and from that sdist (so a file missing there is noticed) the compiled wheel for this Python.
2. auditwheel gives it the manylinux tag of the oldest system it runs on. Both land in dist/, and the plain wheel too.
3. Each wheel is installed in a new environment that has no compiler, and tested there: the compiled one in both editions.

cibuildwheel makes the whole set (x86-64 and aarch64, every Python) from the configuration in pyproject.toml; this is the
same for one machine and one Python, without a container.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
SMOKE = ROOT / "tools" / "smoke.py"
PROGRAM = """\
import asyncio

async def main():
    await asyncio.sleep(0)
    print("loop:", type(asyncio.get_running_loop()).__module__)

asyncio.run(main())
"""


def say(text: str) -> None:
    print(f"wheels: {text}", flush=True)


def run(command: list[str], **environment: str) -> str:
    """The output of a command; its failure, with all it said, ends this program."""
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PATH": tools, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if ended.returncode:
        raise SystemExit(f"{ended.stdout}\nwheels: failed with status {ended.returncode}: {' '.join(command)}")
    return ended.stdout


def only(folder: Path, pattern: str) -> Path:
    """The one file of a folder that matches."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"wheels: wanted one {pattern} in {folder}, found {[path.name for path in found]}")
    return found[0]


def build(work: Path) -> tuple[Path, Path]:
    """Fills dist/; gives the compiled and the plain wheel."""
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    run([sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", str(DIST)])
    sdist = only(DIST, "*.tar.gz")
    say(f"{sdist.name} ({sdist.stat().st_size // 1024} KiB)")
    pip_wheel = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", str(sdist), "--wheel-dir"]
    run([*pip_wheel, str(work / "compiled")], WEFT_PURE_BUILD="")
    run([*pip_wheel, str(work / "plain")], WEFT_PURE_BUILD="1")
    plain = only(work / "plain", "*-py3-none-any.whl")
    compiled = only(work / "compiled", "*.whl")
    if sys.platform == "linux":
        run([sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", str(DIST), str(compiled)])
        compiled = only(DIST, "*manylinux*.whl")
    else:
        compiled = Path(shutil.copy(compiled, DIST))
    for wheel in (compiled, Path(shutil.copy(plain, DIST))):
        say(f"{wheel.name} ({wheel.stat().st_size // 1024} KiB)")
    return compiled, DIST / plain.name


def prove(wheel: Path, editions: dict[str, dict[str, str]], work: Path) -> None:
    """Installs a wheel where there is no compiler and runs it there, once for each edition and its environment."""
    home = work / wheel.name
    run([sys.executable, "-m", "venv", str(home)])
    python = str(home / "bin" / "python")
    # Only the environment's own programs: no cc, no gcc, no ld, and what asks for one by name gets a failure.
    bare = {"PATH": str(home / "bin"), "CC": "/bin/false", "CXX": "/bin/false", "PYTHONPATH": ""}
    run([python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(wheel)], **bare)
    program = work / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    for edition, switches in editions.items():
        environment = {**bare, **switches}
        say(run([python, str(SMOKE), "--edition", edition], **environment).strip())
        if edition not in run([str(home / "bin" / "weft"), "doctor"], **environment):
            raise SystemExit(f"wheels: `weft doctor` of {wheel.name} does not say {edition}")
        told = run([str(home / "bin" / "weft"), "run", str(program)], **environment).strip()
        if told != "loop: weft.loop":
            raise SystemExit(f"wheels: `weft run` of {wheel.name} said {told!r}")
    say(f"{wheel.name}: installed and ran without a compiler ({', '.join(editions)})")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="weft-wheels-") as folder:
        compiled, plain = build(Path(folder))
        prove(compiled, {"compiled": {}, "plain": {"WEFT_PURE": "1"}}, Path(folder))
        prove(plain, {"plain": {}}, Path(folder))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
