"""Every Python × edition × poller, written down in docs/conformance.md with date and commit.

    python -m tests.conformance.proof --python 'python3.11' --python 'some-wrapper python3.14' …

Each `--python` is a command line that starts an interpreter in which Weft's compiled wheel is installed (the plain
edition of the same wheel is run with WEFT_PURE=1). The wheel must be of this tree: every `.py` in it is compared, and
another one ends the proof. Exit status 1 if any pass has a problem; the page is written anyway.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import page
from .suite import ROOT, Verdict

# Run by the other interpreter, whose files may lie where this one can't see them.
_DIGESTS = """
import hashlib, json, pathlib, weft
tree = pathlib.Path(weft.__file__).parent
files = tree.rglob("*.py")
print(json.dumps({f.relative_to(tree).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}))
"""

PASSES = [("compiled", "epoll"), ("compiled", "selector"), ("plain", "epoll"), ("plain", "selector")]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.proof", description=__doc__)
    parser.add_argument("--python", action="append", required=True, metavar="COMMAND")
    parser.add_argument("--peer", action="append", default=[], choices=("asyncio", "uvloop"), help="measure it as well")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--keep", type=Path, default=ROOT / "build" / "proof", help="where verdicts are kept, so that a proof can go on"
    )
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "conformance.md")
    options = parser.parse_args(argv)

    commit = _said(["git", "log", "-1", "--format=%h", "--", "src"])
    if _said(["git", "status", "--porcelain", "--", "src"]):
        raise SystemExit("src/ has changes that are not committed: a proof is of a commit")
    proof = Proof(
        commit, _said(["git", "log", "-1", "--format=%h", "--", "tests/conformance/*.py"]), options.keep, options.jobs
    )
    runs: list[page.Run] = []
    prefixes = [shlex.split(command) for command in options.python]
    for prefix in prefixes:
        _check_installed(prefix)
    for prefix in prefixes:
        version = _said([*prefix, "-c", "import sys; print(sys.version.split()[0])"])
        print(f"Python {version}", flush=True)
        runs += [proof.measure(prefix, version, "weft", edition, poller) for edition, poller in PASSES]
        for peer in options.peer:
            found = _said([*prefix, "-c", f"import importlib.util as u; print(u.find_spec({peer!r}) is not None)"])
            if found == "True":
                runs.append(proof.measure(prefix, version, peer))
            else:
                print(f"  {peer}: not installed")
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    options.page.write_text(page.written(runs, today, commit), encoding="utf-8")
    print(f"written: {options.page}")
    return 1 if any(run.problems for run in runs if run.loop == "weft") else 0


@dataclass
class Proof:
    """What is proved: passes over one state of the sources, each kept in a file so that a proof can be resumed."""

    commit: str
    """Of the sources."""
    plugging: str
    """The commit of the tests' plugging: all that a peer's verdicts depend on."""
    kept: Path
    jobs: int

    def measure(self, prefix: list[str], version: str, loop: str, edition: str = "", poller: str = "") -> page.Run:
        """One pass, or what an earlier proof of the same commit found."""
        state = f"{self.commit}-{edition}-{poller}" if loop == "weft" else self.plugging
        kept = self.kept / f"{version}-{loop}-{state}.json"
        if not kept.exists():
            self._run(prefix, kept, loop, edition, poller)
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        tests = [Verdict(**test) for test in found["tests"]]
        run = page.Run(version, loop, edition, poller, tests, found["problems"], found["excluded"], found["seconds"])
        outcomes = Counter(test.outcome for test in tests)
        print(f"  {loop} {edition} {poller}: {dict(outcomes)} in {run.seconds} s", flush=True)
        for problem in run.problems if loop == "weft" else ():
            print(f"    {problem}")
        return run

    def _run(self, prefix: list[str], kept: Path, loop: str, edition: str, poller: str) -> None:
        arguments = ["--loop", loop, "--jobs", str(self.jobs)]
        if edition:
            arguments += ["--edition", edition, "--poller", poller]
        else:
            arguments += ["--test-timeout", "15"]  # peers may hang in tests that they never passed
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".partial")
        command = [*prefix, "-m", "tests.conformance", "--json", str(partial), *arguments]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if not partial.exists():
            raise SystemExit(f"{shlex.join(command)}: status {ended.returncode}, no verdicts\n{ended.stderr[-3000:]}")
        partial.rename(kept)


def _check_installed(prefix: list[str]) -> None:
    """Raise SystemExit unless the Weft that `prefix` imports has this tree's sources."""
    installed = json.loads(_said([*prefix, "-P", "-c", _DIGESTS]))
    tree = ROOT / "src" / "weft"
    for source in sorted(tree.rglob("*.py")):
        name = source.relative_to(tree).as_posix()
        if installed.get(name) != hashlib.sha256(source.read_bytes()).hexdigest():
            raise SystemExit(f"{shlex.join(prefix)}: its weft/{name} is not this tree's; install the wheel first")


def _said(command: list[str]) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
