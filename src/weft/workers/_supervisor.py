"""The supervisor: it owns the listening sockets, starts a worker in each slot, and starts another when one dies.

One thread, no event loop: a selector over the workers' channels and the signals, and one deadline at a time.

Rules for whoever edits this file:

- A worker is a fresh process, with one descriptor of the supervisor's (`_channel`). Its sockets it asks for.
- The first worker starts alone, so that a program that can't start says so once.
- A slot has at most two workers: one that serves, and one that starts or drains.
"""

from __future__ import annotations

import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from os import environ
from types import FrameType
from typing import Any

from weft.workers._backoff import Backoff
from weft.workers._channel import Channel, Message
from weft.workers._listeners import BadAddress, Key, Listeners
from weft.workers._worker import CLEAN_UP_S, SETTLE_S, VARIABLE

__all__ = ["DRAIN_S", "supervise"]

DRAIN_S = 30.0
#: The other slots wait this long for the first worker to serve.
FIRST_ALONE_S = 5.0
#: A worker that lives so long without serving a socket of ours is taken to have nothing to serve.
START_S = 60.0

_STOP = (signal.SIGTERM, signal.SIGINT)
_HANDLED = (*_STOP, signal.SIGHUP, signal.SIGCHLD)


def supervise(command: Sequence[str], n: int, *, binds: Sequence[str] = (), drain_s: float = DRAIN_S) -> int:
    """Run `n` workers by this command until a signal ends them; the exit code. ValueError for what can't be."""
    if n < 1:
        raise ValueError(f"the number of workers is {n}: at least 1 is needed")
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
    """One worker, as the supervisor sees it."""

    def __init__(self, slot: int, process: subprocess.Popen[bytes], channel: Channel) -> None:
        self.slot = slot
        self.process = process
        self.channel = channel
        self.started_at = time.monotonic()
        self.is_ready = False
        #: Told to end; then `quiet_by` is when it gets SIGTERM in any case, and `kill_by` when it is killed.
        self.is_ending = False
        self.is_killed = False
        self.quiet_by: float | None = None
        self.kill_by: float | None = None
        self.keys: set[Key] = set()

    def __str__(self) -> str:
        return f"worker {self.slot} (pid {self.process.pid})"


class _Supervisor:
    def __init__(self, command: Sequence[str], n: int, listeners: Listeners, drain_s: float) -> None:
        self._command = list(command)
        self._listeners = listeners
        self._drain_s = drain_s
        self._slots = n
        self._backoffs = [Backoff() for _ in range(n)]
        self._alive: list[_Process] = []
        # Slot -> when its next worker starts.
        self._starts: dict[int, float] = {}
        # Slots still to be replaced, and the one under way.
        self._rolling: list[int] = []
        self._replaced: _Process | None = None
        self._replacement: _Process | None = None
        self._has_served = False
        self._code = 0
        self._is_ending = False
        self._selector = selectors.DefaultSelector()

    # -- life --

    def run(self) -> int:
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        before = {each: signal.signal(each, _note) for each in _HANDLED}
        wakeup = signal.set_wakeup_fd(writer.fileno())
        self._selector.register(reader, selectors.EVENT_READ)
        try:
            now = time.monotonic()
            self._starts = {slot: now + (FIRST_ALONE_S if slot else 0) for slot in range(self._slots)}
            self._tick(now)
            while self._alive or self._starts:
                for key, _ in self._selector.select(self._wait_s()):
                    if key.fileobj is reader:
                        for number in reader.recv(4096):
                            self._on_signal(number)
                    else:
                        self._on_channel(key.data)
                self._reap()
                self._tick(time.monotonic())
            return self._code
        finally:
            for each in list(self._alive):
                each.process.kill()
                each.process.wait()
                self._forget(each)
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            reader.close()
            writer.close()

    def _wait_s(self) -> float | None:
        times = list(self._starts.values())
        for each in self._alive:
            times += [at for at in (each.quiet_by, each.kill_by) if at is not None]
        if self._replacement is not None and not self._replacement.is_ready:
            times.append(self._replacement.started_at + START_S)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _tick(self, now: float) -> None:
        """Do what is due."""
        for slot, at in list(self._starts.items()):
            if at <= now:
                del self._starts[slot]
                self._start(slot)
        for each in self._alive:
            if each.quiet_by is not None and each.quiet_by <= now:
                self._terminate(each)
            if each.kill_by is not None and each.kill_by <= now:
                each.kill_by = None
                each.is_killed = True
                self._code = self._code or 1
                _say(f"{each} did not end in time: it is killed")
                each.process.kill()
        fresh = self._replacement
        if fresh is not None and not fresh.is_ready and now >= fresh.started_at + START_S:
            _say(f"{fresh} serves nothing so far: it is taken to be ready")
            self._on_ready(fresh)
        if self._rolling and self._replaced is None and self._replacement is None and not self._is_ending:
            self._replace(self._rolling.pop(0))

    # -- workers --

    def _start(self, slot: int) -> _Process | None:
        ours, theirs = socket.socketpair()
        fd = theirs.fileno()
        told = f"{fd}:{slot}:{self._slots}:{self._drain_s}"
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                pass_fds=[fd],
                env={**environ, VARIABLE: told},
                # Ctrl-C in a terminal is for the supervisor.
                process_group=0,
            )
        except OSError as error:
            ours.close()
            self._starts[slot] = time.monotonic() + self._backoffs[slot].after(0.0)
            _say(f"worker {slot} can't be started: {error}")
            return None
        finally:
            theirs.close()
        each = _Process(slot, process, Channel(ours))
        self._alive.append(each)
        self._selector.register(ours, selectors.EVENT_READ, each)
        return each

    def _forget(self, each: _Process) -> None:
        self._alive.remove(each)
        if each.channel.fileno() in self._selector.get_map():
            self._selector.unregister(each.channel.fileno())
        each.channel.close()

    def _reap(self) -> None:
        for each in [each for each in self._alive if each.process.poll() is not None]:
            if each.channel.fileno() in self._selector.get_map():
                self._on_channel(each)
            self._forget(each)
            self._on_end(each, each.process.returncode)

    def _on_end(self, each: _Process, code: int) -> None:
        how = f"was ended by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        if each is self._replaced:
            self._replaced = None
        if each.is_ending:
            if code not in (0, -signal.SIGTERM) and not each.is_killed:
                _say(f"{each} {how}")
            self._finish_roll()
        elif each is self._replacement:
            self._replacement, self._rolling = None, []
            _say(f"{each} {how} before it served: the former worker stays, and the rolling restart ends")
        elif self._replacement is not None and self._replacement.slot == each.slot:
            _say(f"{each} {how}; its replacement starts already")
        elif not each.is_ready and not self._has_served and len(self._alive) == 0:
            self._starts.clear()
            self._code = code if code >= 0 else 128 - code
            _say(f"{each} {how} before it served: no worker can start")
        elif not each.is_ready and code == 0:
            _say(f"{each} {how} without serving: its slot is done")
        elif not self._is_ending:
            age = time.monotonic() - each.started_at
            wait_s = self._backoffs[each.slot].after(age)
            self._starts[each.slot] = time.monotonic() + wait_s
            _say(f"{each} {how}; the next one starts {f'in {wait_s:g} s' if wait_s else 'now'}")

    def _on_channel(self, each: _Process) -> None:
        for message, _ in each.channel.receive():
            if message.get("is") == "ready":
                self._on_ready(each)
            elif message.get("is") == "quiet":
                self._terminate(each)
            else:
                self._answer(each, message)
        if each.channel.is_ended:
            self._selector.unregister(each.channel.fileno())

    def _answer(self, each: _Process, question: Message) -> None:
        if question["ask"] == "binds":
            keys = list(self._listeners.binds)
            each.keys.update(keys)
            found = [self._listeners.socket_for(key, each.slot) for key in keys]
            each.channel.send({"do": "answer"}, [sock.fileno() for sock in found if sock is not None])
            return
        address: Any = question["address"]
        key = (question["family"], tuple(address) if isinstance(address, list) else address)
        try:
            sock = self._listeners.socket_for(key, each.slot)
        except OSError as error:
            each.channel.send({"do": "answer", "errno": error.errno})
            return
        each.keys.add(key)
        each.channel.send({"do": "answer"}, [] if sock is None else [sock.fileno()])

    def _on_ready(self, each: _Process) -> None:
        if each.is_ready:
            return
        each.is_ready = True
        _say(f"{each} serves")
        if not self._has_served:
            self._has_served = True
            self._starts = dict.fromkeys(self._starts, time.monotonic())
        if each is self._replacement:
            self._replacement = None
            if self._replaced is not None:
                self._end(self._replaced)
            else:
                self._finish_roll()

    # -- ends --

    def _replace(self, slot: int) -> None:
        self._replaced = next((each for each in self._alive if each.slot == slot and not each.is_ending), None)
        self._starts.pop(slot, None)
        self._replacement = self._start(slot)
        if self._replacement is None:
            self._replaced = None

    def _finish_roll(self) -> None:
        if not self._rolling and self._replaced is None and self._replacement is None and not self._is_ending:
            self._listeners.keep(set().union(*(each.keys for each in self._alive)))
            _say("the rolling restart is done")

    def _end(self, each: _Process) -> None:
        """Let a worker stop accepting, then drain, then end."""
        if not each.is_ending:
            each.is_ending = True
            now = time.monotonic()
            each.kill_by = now + self._drain_s + CLEAN_UP_S
            is_told = each.channel.send({"do": "drain"})
            each.quiet_by = now + (min(2 * SETTLE_S, self._drain_s) if is_told and each.is_ready else 0)

    def _terminate(self, each: _Process) -> None:
        if each.quiet_by is not None:
            each.quiet_by = None
            each.process.send_signal(signal.SIGTERM)

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP and not self._is_ending:
            self._rolling = list(range(self._slots))
        elif number in _STOP and not self._is_ending:
            self._is_ending = True
            self._starts.clear()
            self._rolling = []
            _say(f"{_signal_name(number)}: the workers have {self._drain_s:g} s to drain")
            for each in self._alive:
                self._end(each)
        elif number in _STOP:
            self._code = 128 + number
            for each in self._alive:
                each.is_killed = True
                each.process.kill()


def _note(number: int, frame: FrameType | None) -> None:
    """The wake-up fd has told the supervisor already."""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _say(line: str) -> None:
    print(f"weft workers: {line}", file=sys.stderr, flush=True)
