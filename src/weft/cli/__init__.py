"""The command `weft`: one verb a file. It needs the standard library and nothing else.

A verb is a module of this package with `main(arguments) -> exit code`. It is imported only when it is asked for, so that
`weft run` starts a program as early as it can. Modules with an underscore are no verbs: the verbs share or use them.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

__all__ = ["main"]

_VERBS = {
    "run": "run an unmodified asyncio program on Weft",
    "asyncify": "write the types of the asynchronous class of a synchronous client class",
    "doctor": "say what runs here, how, and what the machine lacks",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process; the exit code.

    A program that `weft run` starts may leave by any exception, as it would leave Python itself.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in _VERBS:
        verb = importlib.import_module(f"weft.cli.{given[0]}")
        code: int = verb.main(given[1:])
        return code
    parser = argparse.ArgumentParser(
        prog="weft",
        description="Weft: an asyncio runtime that is complete, fast, and can be seen through.",
        epilog="`weft VERB --help` says more about each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"weft {_version()}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name, purpose in _VERBS.items():
        verbs.add_parser(name, help=purpose)
    parser.parse_args(given)
    return 0


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("weft")
    except PackageNotFoundError:
        return "(not installed: run from its sources)"
