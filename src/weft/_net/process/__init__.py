"""Child processes: `loop.subprocess_exec` and `loop.subprocess_shell`. Checks and words are asyncio's."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable
from typing import Any

from weft._net.process.spawn import Children
from weft._net.process.transport import make_transport
from weft._net.sockops import AnyLoop

__all__ = ["Children", "subprocess_exec", "subprocess_shell"]

logger = logging.getLogger("asyncio")


async def subprocess_exec(
    loop: AnyLoop,
    protocol_factory: Callable[[], Any],
    program: Any,
    *args: Any,
    stdin: Any = subprocess.PIPE,
    stdout: Any = subprocess.PIPE,
    stderr: Any = subprocess.PIPE,
    shell: bool = False,
    **options: Any,
) -> tuple[Any, Any]:
    """As `loop.subprocess_exec`: (transport, protocol)."""
    if options.pop("universal_newlines", False):
        raise ValueError("universal_newlines must be False")
    if shell:
        raise ValueError("shell must be False")
    _check_is_binary(options)
    what = f"execute program {program!r}"
    return await _run(loop, protocol_factory, (program, *args), what, False, stdin, stdout, stderr, options)


async def subprocess_shell(
    loop: AnyLoop,
    protocol_factory: Callable[[], Any],
    cmd: bytes | str,
    *,
    stdin: Any = subprocess.PIPE,
    stdout: Any = subprocess.PIPE,
    stderr: Any = subprocess.PIPE,
    shell: bool = True,
    **options: Any,
) -> tuple[Any, Any]:
    """As `loop.subprocess_shell`: (transport, protocol)."""
    if not isinstance(cmd, bytes | str):
        raise ValueError("cmd must be a string")
    if options.pop("universal_newlines", False):
        raise ValueError("universal_newlines must be False")
    if not shell:
        raise ValueError("shell must be True")
    _check_is_binary(options)
    what = f"run shell command {cmd!r}"
    return await _run(loop, protocol_factory, cmd, what, True, stdin, stdout, stderr, options)


def _check_is_binary(options: dict[str, Any]) -> None:
    """Refuse what would put a buffer or a decoder between the pipe and the protocol, and take it out of `options`."""
    if options.pop("bufsize", 0) != 0:
        raise ValueError("bufsize must be 0")
    if options.pop("text", None):
        raise ValueError("text must be False")
    if options.pop("encoding", None) is not None:
        raise ValueError("encoding must be None")
    if options.pop("errors", None) is not None:
        raise ValueError("errors must be None")


async def _run(
    loop: AnyLoop,
    protocol_factory: Callable[[], Any],
    args: Any,
    what: str,
    shell: bool,
    stdin: Any,
    stdout: Any,
    stderr: Any,
    options: dict[str, Any],
) -> tuple[Any, Any]:
    protocol = protocol_factory()
    is_logged = loop.get_debug()
    if is_logged:
        # The program only: arguments may be long, and secret.
        logger.debug(" ".join([what, *_describe_pipes(stdin, stdout, stderr)]))
    transport = await make_transport(
        loop,
        protocol,
        args,
        shell=shell,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        universal_newlines=False,
        bufsize=0,
        **options,
    )
    if is_logged:
        logger.info("%s: %r", what, transport)
    return transport, protocol


def _describe_pipes(stdin: Any, stdout: Any, stderr: Any) -> list[str]:
    info = []
    if stdin is not None:
        info.append(f"stdin={_describe_pipe(stdin)}")
    if stdout is not None and stderr == subprocess.STDOUT:
        info.append(f"stdout=stderr={_describe_pipe(stdout)}")
        return info
    if stdout is not None:
        info.append(f"stdout={_describe_pipe(stdout)}")
    if stderr is not None:
        info.append(f"stderr={_describe_pipe(stderr)}")
    return info


def _describe_pipe(fd: Any) -> str:
    if fd == subprocess.PIPE:
        return "<pipe>"
    return "<stdout>" if fd == subprocess.STDOUT else repr(fd)
