"""A random schedule of what can happen to pipes, made from a seed, and the judge of how it ended.

    Schedule(kind, seed).run()     a coroutine; afterwards `complaints` says which rules were broken

A schedule opens a few pipes. Each end is a transport, or bare: a descriptor that is read or written without a loop. Write,
close, abort, pause, resume, move the marks, close the bare end, cancel the making of an end, also from within the
protocols' callbacks. Then all is ended in order, and this must hold, beside what every `Watcher` looks at:

- connection_made, then connection_lost, each once; eof_received once, if at all, between them;
- what arrived is a beginning of what was written; all of it, if neither end cut the other off;
- the reader of a pipe that was ended in order is told of its end;
- a writer loses its reader without an error if nothing was left to write.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from .ends import PATIENCE_S, SIZES, End, Plan


class OsPipe:
    """A pipe of the kernel, its ends closed by `os.close`."""

    name = "pipe"

    def open(self) -> tuple[Any, Any]:
        reader, writer = os.pipe()
        return Handle(reader), Handle(writer)


class SocketPipe:
    """A pair of sockets, each used in one direction."""

    name = "socket pipe"

    def open(self) -> tuple[Any, Any]:
        return socket.socketpair()


class Handle:
    """What a transport wants of a file: a number, and a close that whoever watches closes can see."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


KINDS = (OsPipe(), SocketPipe())


class PipeEnd(End):
    """One end of a pipe, as a transport."""

    def __init__(self, plan: Any, side: str) -> None:
        super().__init__(plan, side)
        self.other: Any = None

    def eof_received(self) -> bool:
        self.told_of_eof()
        return True  # nobody looks at it: a pipe closes

    def close(self) -> None:
        if self.side == "writer":
            super().close()
        else:
            self.rough = True
            self.transport.close()

    def ask(self) -> None:
        repr(self.transport)
        self.transport.get_extra_info("pipe")
        self.transport.is_closing()


class BareEnd:
    """One end of a pipe, without a loop."""

    def __init__(self, plan: Any, side: str, handle: Any) -> None:
        self.plan = plan
        self.side = side
        self.handle = handle
        self.key = plan.dice.randbytes(997)
        self.offered = 0
        self.promised = -1
        self.received = bytearray()
        self.rough = self.over = self.eof = False
        os.set_blocking(handle.fileno(), False)

    stream = End.stream

    def act(self) -> None:
        if self.over:
            return
        dice = self.plan.dice
        if not self.plan.is_gentle and dice.random() < 0.1:
            self.rough = self.side == "reader"
            self.close()
            return
        try:
            if self.side == "writer":
                self.offered += os.write(self.handle.fileno(), self.stream(dice.choice(SIZES[1:]), self.offered))
            else:
                self.take(dice.choice(SIZES[1:]))
        except BlockingIOError:
            pass  # nothing there, or no room: the next deed
        except OSError:
            self.close()

    def take(self, count: int) -> None:
        data = os.read(self.handle.fileno(), count)
        self.received += data
        if not data:
            self.eof = True
            self.close()

    def close(self) -> None:
        if not self.over:
            self.over = True
            self.promised = self.offered
            self.handle.close()

    def finish(self) -> None:
        """Read to the end, or end the writing."""
        try:
            while not self.over:
                if self.side == "writer":
                    self.close()
                else:
                    self.take(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            self.close()


class Schedule(Plan):
    """One seed's deeds on a few pipes."""

    def __init__(self, kind: Any, seed: int) -> None:
        super().__init__(kind, seed)
        self.ends: list[PipeEnd] = []
        self.pairs: list[tuple[Any, Any]] = []
        self.connecting: list[Any] = []
        self.begun: set[PipeEnd] = set()
        self.is_gentle = self.dice.random() < 0.5
        rough = [] if self.is_gentle else [PipeEnd.close]
        self.of_writer = [PipeEnd.write] * 6 + [PipeEnd.move_marks, PipeEnd.ask] + rough * 2
        if not self.is_gentle:
            self.of_writer += [PipeEnd.write_eof, PipeEnd.abort]
        self.of_reader = [PipeEnd.pause_reading, PipeEnd.resume_reading, PipeEnd.ask] * 2 + rough

    @property
    def received(self) -> int:
        return sum(len(end.received) for pair in self.pairs for end in pair)

    def deeds_of(self, watcher: Any) -> list[Any]:
        return self.of_writer if watcher.side == "writer" else self.of_reader

    def cut(self, end: Any) -> None:
        """A writer that is closed has sent all."""

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self.dice.randrange(10, 40)):
            self.step(loop)
            if self.dice.random() < 0.6:
                for _ in range(self.dice.randrange(1, 4)):
                    await asyncio.sleep(0)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self.finish()
        except TimeoutError:
            self.complain(f"did not end: {[end for end in self.ends if end.events and not end.lost]}")
            for end in self.ends:
                if end.transport is not None and not end.lost:
                    end.transport.close()
            await asyncio.sleep(0)
        for pair in self.pairs:
            for end in pair:
                if isinstance(end, BareEnd):
                    end.close()
            self.judge(*pair)

    def step(self, loop: Any) -> None:
        dice = self.dice
        ends = [end for pair in self.pairs for end in pair]
        ends = [end for end in ends if isinstance(end, BareEnd) or end.transport is not None]
        choice = dice.random()
        if len(self.pairs) < 5 and (choice < 0.2 or not ends):
            self.open(loop)
        elif choice < 0.25 and self.connecting and not self.is_gentle:
            dice.choice(self.connecting).cancel()
        elif ends:
            dice.choice(ends).act()

    def open(self, loop: Any) -> None:
        """A pipe of two ends, at least one of them a transport."""
        of_reader, of_writer = self.kind.open()
        bare = self.dice.choice(("", "", "reader", "writer"))
        reader = BareEnd(self, "reader", of_reader) if bare == "reader" else PipeEnd(self, "reader")
        writer = BareEnd(self, "writer", of_writer) if bare == "writer" else PipeEnd(self, "writer")
        if isinstance(reader, PipeEnd):
            self.connect(loop, loop.connect_read_pipe, reader, of_reader)
        if isinstance(writer, PipeEnd):
            self.connect(loop, loop.connect_write_pipe, writer, of_writer)
        self.pairs.append((reader, writer))

    def connect(self, loop: Any, call: Any, end: PipeEnd, handle: Any) -> None:
        def make() -> PipeEnd:
            self.begun.add(end)
            return end

        def over(task: Any) -> None:
            if task.cancelled():
                end.rough = True
                if end not in self.begun:
                    # Given up before there is a transport: the file is still ours.
                    handle.close()

        self.connecting.append(loop.create_task(call(make, handle)))
        self.connecting[-1].add_done_callback(over)

    async def finish(self) -> None:
        """End every writer, read every reader to its end, and wait until all has ended."""
        self.liveliness = 0.0
        await asyncio.gather(*self.connecting, return_exceptions=True)
        while not all(self.is_over(end) for pair in self.pairs for end in pair):
            for pair in self.pairs:
                for end in pair:
                    if isinstance(end, BareEnd):
                        end.finish()
                    elif end.side == "writer" and end.transport is not None and not end.transport.is_closing():
                        end.ends()
                        end.transport.close()
                    elif end.side == "reader" and end.transport is not None:
                        end.transport.resume_reading()
            await asyncio.sleep(0)

    def is_over(self, end: Any) -> bool:
        return end.over if isinstance(end, BareEnd) else end.lost or end not in self.begun

    def judge(self, reader: Any, writer: Any) -> None:
        pair = f"{self.describe(reader)} from {self.describe(writer)}"
        for end in (reader, writer):
            if end in self.begun:
                if not end.events or end.events[0] != "made" or not end.events[-1].startswith("lost"):
                    self.complain(f"not made and lost: {pair}")
        if reader.received != writer.stream(len(reader.received)) or len(reader.received) > writer.offered:
            self.complain(f"what arrived was not written: {pair}")
        if reader.rough or writer.rough:
            return
        if not reader.eof:
            self.complain(f"was not told of the end: {pair}")
        if len(reader.received) < writer.promised:
            self.complain(f"not all of it came: {pair}")
        if isinstance(writer, PipeEnd) and writer.events[-1] != "lost None":
            self.complain(f"an error without a reason: {pair}")

    def describe(self, end: Any) -> str:
        if isinstance(end, PipeEnd):
            return repr(end)
        return f"<bare {end.side} offered={end.offered} received={len(end.received)} rough={end.rough}>"
