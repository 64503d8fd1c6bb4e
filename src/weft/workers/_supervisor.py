"""The supervisor: it owns the listening sockets, starts a worker in each slot, and starts another when one dies.

One thread, no event loop: a selector over the workers' channels and the signals, and one deadline at a time. What is to
be done when stands in `_slots`; here is what does it.

Rules for whoever edits this file:

- A worker is a fresh process, with one descriptor of the supervisor's (`_channel`). Its sockets it asks for.
- The workers live and die with this process, so nothing that one of them says, and nobody who stops reading stderr, may
  end it.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

from weft.workers._channel import Channel, Message
from weft.workers._listeners import BadAddress, Key, Listeners
from weft.workers._say import say
from weft.workers._slots import Slots, Worker
from weft.workers._worker import VARIABLE

__all__ = ["DRAIN_S", "supervise"]

DRAIN_S = 30.0
#: More is a slip, and each costs a process, and a socket for each address.
WORKERS_MAX = 1024

_STOP = (signal.SIGTERM, signal.SIGINT)
_HANDLED = (*_STOP, signal.SIGHUP, signal.SIGCHLD)


def supervise(command: Sequence[str], n: int, *, binds: Sequence[str] = (), drain_s: float = DRAIN_S) -> int:
    """Run `n` workers by this command until a signal ends them; the exit code. ValueError for what can't be."""
    if n < 1:
        raise ValueError(f"the number of workers is {n}: at least 1 is needed")
    if n > WORKERS_MAX:
        raise ValueError(f"the number of workers is {n}: at most {WORKERS_MAX} are supervised")
    if not 0 <= drain_s < float("inf"):
        raise ValueError(f"{drain_s} is no number of seconds to drain")
    if threading.current_thread() is not threading.main_thread():
        raise ValueError("workers are supervised by the main thread only")
    listeners = Listeners(n)
    try:
        for bind in binds:
            try:
                listeners.bind_all(bind)
            except BadAddress as error:
                raise ValueError(str(error)) from None
        return _Supervisor(command, n, listeners, drain_s).run()
    finally:
        listeners.close()


class _Process:
    """What there is of a worker here."""

    def __init__(self, process: subprocess.Popen[bytes], channel: Channel) -> None:
        self.process = process
        self.channel = channel
        #: The addresses whose sockets it has.
        self.keys: set[Key] = set()


class _Supervisor:
    """The loop, and the hands of `Slots`."""

    def __init__(self, command: Sequence[str], n: int, listeners: Listeners, drain_s: float) -> None:
        self._command = list(command)
        self._listeners = listeners
        self._told = f"{n}:{drain_s}"
        self._processes: dict[Worker, _Process] = {}
        self._selector = selectors.DefaultSelector()
        self._slots = Slots(n, drain_s, self, time.monotonic())

    def run(self) -> int:
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        before = {each: signal.signal(each, _note) for each in _HANDLED}
        wakeup = signal.set_wakeup_fd(writer.fileno())
        self._selector.register(reader, selectors.EVENT_READ)
        slots = self._slots
        try:
            slots.tick(time.monotonic())
            while not slots.is_over:
                for key, _ in self._selector.select(self._wait_s()):
                    if key.fileobj is reader:
                        for number in reader.recv(4096):
                            self._on_signal(number)
                    else:
                        self._on_channel(key.data)
                self._reap()
                slots.tick(time.monotonic())
            return slots.code
        finally:
            for worker, each in list(self._processes.items()):
                each.process.kill()
                each.process.wait()
                self._forget(worker)
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            reader.close()
            writer.close()

    def _wait_s(self) -> float | None:
        due = self._slots.next_due()
        return None if due is None else max(0.0, due - time.monotonic())

    # -- what happens --

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._slots.restart(time.monotonic())
        elif number in _STOP:
            self._slots.end(number, time.monotonic())

    def _on_channel(self, worker: Worker) -> None:
        channel = self._processes[worker].channel
        try:
            for message, _ in channel.receive():
                if message.get("is") == "ready":
                    self._slots.on_serving(worker, time.monotonic())
                elif message.get("is") == "quiet":
                    self._slots.on_quiet(worker, time.monotonic())
                else:
                    self._answer(worker, message)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            # Somebody else wrote to a descriptor that he didn't open.
            self.say(f"{worker} says what can't be understood ({error!r}): no one listens to it any more")
            channel.is_ended = True
        if channel.is_ended:
            self._selector.unregister(channel.fileno())

    def _answer(self, worker: Worker, question: Message) -> None:
        each = self._processes[worker]
        answer: Message = {"do": "answer", "number": question["number"]}
        found: list[socket.socket | None] = []
        try:
            keys = list(self._listeners.binds) if question["ask"] == "binds" else [_key(question)]
            found = [self._listeners.socket_for(key, worker.slot) for key in keys]
            each.keys.update(keys)
        except OSError as error:
            answer["errno"] = error.errno
        each.channel.send(answer, [sock.fileno() for sock in found if sock is not None])

    def _reap(self) -> None:
        for worker, each in list(self._processes.items()):
            code = each.process.poll()
            if code is not None:
                if not each.channel.is_ended:
                    self._on_channel(worker)  # what it said last
                self._forget(worker)
                for path in self._listeners.mend():
                    self.say(f"{worker} has removed {path}, where others listen: it is there again")
                self._slots.on_death(worker, code, time.monotonic())

    def _forget(self, worker: Worker) -> None:
        channel = self._processes.pop(worker).channel
        if not channel.is_ended:
            self._selector.unregister(channel.fileno())
        channel.close()

    # -- what is done --

    def start(self, worker: Worker) -> int:
        ours, theirs = socket.socketpair()
        fd = theirs.fileno()
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                pass_fds=[fd],
                env={**os.environ, VARIABLE: f"{fd}:{os.getpid()}:{worker.slot}:{self._told}"},
                # Ctrl-C in a terminal is for the supervisor.
                process_group=0,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        channel = Channel(ours)
        self._processes[worker] = _Process(process, channel)
        self._selector.register(channel.fileno(), selectors.EVENT_READ, worker)
        return process.pid

    def drain(self, worker: Worker) -> bool:
        return self._processes[worker].channel.send({"do": "drain"})

    def terminate(self, worker: Worker) -> None:
        self._processes[worker].process.send_signal(signal.SIGTERM)

    def kill(self, worker: Worker) -> None:
        self._processes[worker].process.kill()

    def restarted(self) -> None:
        self._listeners.keep(set().union(*(each.keys for each in self._processes.values())))

    def ended(self) -> None:
        self._listeners.refuse()

    def say(self, line: str) -> None:
        say(line)


def _key(question: Message) -> Key:
    address: Any = question["address"]
    return question["family"], tuple(address) if isinstance(address, list) else address


def _note(number: int, frame: FrameType | None) -> None:
    """The wake-up fd has told the supervisor already."""
