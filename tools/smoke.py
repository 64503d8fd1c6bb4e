"""Does an installed Weft work at all, and is it the edition that was meant? Standard library only.

python tools/smoke.py --edition compiled|plain
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import importlib
import pkgutil
import platform
import sys


async def talk() -> bytes:
    """One TCP round trip over asyncio's streams, with a task, a timer and a timeout on the way."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        writer.write(b"over and under\n")
        await asyncio.gather(asyncio.sleep(0.001), asyncio.create_task(asyncio.sleep(0)))
        line = await reader.read()
        writer.close()
        await writer.wait_closed()
    return line


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edition", choices=("compiled", "plain"), required=True)
    wanted = parser.parse_args().edition
    # A hang is an answer too.
    faulthandler.dump_traceback_later(60, exit=True)

    import weft
    from weft import _edition

    if _edition.edition() != wanted:
        print(f"smoke: wanted the {wanted} edition, got {_edition.edition()}: {_edition.reason()}", file=sys.stderr)
        return 1
    for module in pkgutil.walk_packages(weft.__path__, "weft."):
        # `__main__` would start the command.
        if module.name != "weft.__main__":
            importlib.import_module(module.name)
    line = weft.run(talk())
    if line != b"over and under\n":
        print(f"smoke: the echo came back as {line!r}", file=sys.stderr)
        return 1
    print(f"smoke: weft {wanted} works on {platform.python_implementation()} {platform.python_version()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
