"""What is started, replaced, drained and killed, and when: the slots, without a process, a socket or a clock.

A worker goes one way, and may die in any state:

    STARTING ── serves, or START_S ──▶ SERVING ── end ──▶ SETTLING ── quiet, or in time ──▶ DRAINING ── late ──▶ KILLED
        └───────────────────────────── end: it has accepted nothing ──────────────────────────────▲

A slot has `current`, the worker that serves or starts, and `former`, the one that it replaces: that serves until `current`
does, and leaves then. What a death means stands in `_on_death`, and nowhere else:

    who dies                             what follows
    a worker that leaves                 nothing; a word, if it did not end in order
    `former`, `current` still starting   nothing: `current` goes on
    `current`, before it served          `former` is current again, if there is one; else, if it is the first of all and
                                         nothing has served, the end of all; else the slot is done (exit code 0), or waits
                                         and starts another
    `current`, when it served            the slot waits and starts another

A rolling restart is no list of things to do but a wish: that no slot's worker be older than the last request. `_advance`
looks, after each event, whether the next slot may be replaced, or all are. A worker that was started since the request
and dies before it served ends the wish.

Rules for whoever edits this file:

- Times come in as `now`, in seconds of one clock. Whoever calls must call `tick` at `next_due`.
- A worker that serves is told to end only when its replacement serves, or when all ends.
- After the beginning of the end nothing is started.
"""

from __future__ import annotations

import enum
import signal
from typing import Protocol

from weft.workers._backoff import Backoff

__all__ = ["CLEAN_UP_S", "SEND_AWAY_S", "SETTLE_S", "Hands", "Slots", "State", "Worker", "signal_name"]

#: How long a worker that stops accepting may take to read what its connections have sent,
SETTLE_S = 0.5
#: and how long to send its clients away, if the program does that.
SEND_AWAY_S = 2.0
#: A program has this much longer than the drain to clean up, before SIGKILL.
CLEAN_UP_S = 2.0
#: The other slots wait this long for the first worker to serve.
FIRST_ALONE_S = 5.0
#: A worker that lives so long without serving a socket of ours is taken to have nothing to serve.
START_S = 60.0

# How a worker ends in order: by itself, or as SIGTERM ends a program, or a shell that ran one.
_IN_ORDER = (0, -signal.SIGTERM, 128 + signal.SIGTERM)


class State(enum.Enum):
    STARTING = "starting"
    SERVING = "serving"
    #: Told to stop accepting.
    SETTLING = "settling"
    #: Has got SIGTERM.
    DRAINING = "draining"
    #: Has got SIGKILL.
    KILLED = "killed"


class Worker:
    """One process, from its start to its death."""

    __slots__ = ("due", "generation", "has_served", "kill_at", "pid", "serving_since", "slot", "state")

    def __init__(self, slot: int, generation: int, due: float) -> None:
        self.slot = slot
        self.pid = 0
        self.state = State.STARTING
        #: How many rolling restarts had been asked for when it started.
        self.generation = generation
        #: When its state ends if nothing happens; None for never.
        self.due: float | None = due
        self.kill_at = due
        #: It said so; one that is taken to serve has not.
        self.has_served = False
        self.serving_since: float | None = None

    def __str__(self) -> str:
        return f"worker {self.slot} (pid {self.pid})"

    def __repr__(self) -> str:
        return f"<{self} {self.state.value} generation={self.generation} due={self.due}>"

    @property
    def is_leaving(self) -> bool:
        return self.state not in (State.STARTING, State.SERVING)


class Hands(Protocol):
    """What is done to processes. None of these may call back."""

    def start(self, worker: Worker) -> int:
        """Start its process and give the pid; OSError if that fails."""

    def drain(self, worker: Worker) -> bool:
        """Tell it to stop accepting; False if it can't be told."""

    def terminate(self, worker: Worker) -> None:
        """Send it SIGTERM."""

    def kill(self, worker: Worker) -> None:
        """Send it SIGKILL."""

    def restarted(self) -> None:
        """A rolling restart is done, and every worker has its sockets."""

    def ended(self) -> None:
        """The end has begun, and every worker has its sockets."""

    def say(self, line: str) -> None: ...


class _Slot:
    __slots__ = ("backoff", "current", "former", "generation", "number", "start_at")

    def __init__(self, number: int, start_at: float) -> None:
        self.number = number
        self.current: Worker | None = None
        self.former: Worker | None = None
        #: When the next worker starts, if one is to.
        self.start_at: float | None = start_at
        #: Of the last worker that was started here, or could not be.
        self.generation = 0
        self.backoff = Backoff()

    @property
    def workers(self) -> list[Worker]:
        return [each for each in (self.current, self.former) if each is not None]

    @property
    def is_moving(self) -> bool:
        """Whether something is about to happen here that a rolling restart waits for."""
        return (
            self.former is not None
            or self.start_at is not None
            or (self.current is not None and self.current.state is State.STARTING)
        )


class Slots:
    """All slots of a supervisor."""

    def __init__(self, count: int, drain_s: float, hands: Hands, now: float) -> None:
        self._hands = hands
        self._drain_s = drain_s
        # The first worker starts alone, so that a program that can't start says so once.
        self._slots = [_Slot(number, now + (FIRST_ALONE_S if number else 0)) for number in range(count)]
        self._has_served = False
        self._has_said_late = False
        self._generation = 0
        self._is_rolling = False
        self._is_ending = False
        #: The exit code.
        self.code = 0

    @property
    def workers(self) -> list[Worker]:
        """Those that live."""
        return [each for slot in self._slots for each in slot.workers]

    @property
    def is_over(self) -> bool:
        return not self.workers and all(slot.start_at is None for slot in self._slots)

    def next_due(self) -> float | None:
        """When `tick` has something to do; None for never."""
        times = [slot.start_at for slot in self._slots] + [each.due for each in self.workers]
        return min((at for at in times if at is not None), default=None)

    # -- what happens --

    def tick(self, now: float) -> None:
        """Do what is due."""
        for worker in self.workers:
            if worker.due is not None and worker.due <= now:
                self._on_due(worker, now)
        for slot in self._slots:
            if slot.start_at is not None and slot.start_at <= now:
                if not self._has_served and self.workers and not self._has_said_late:
                    self._has_said_late = True
                    self._hands.say(f"{self.workers[0]} has served nothing so far: the others start all the same")
                self._start(slot, now)
        self._advance(now)

    def on_serving(self, worker: Worker, now: float) -> None:
        """A worker says that it serves."""
        worker.has_served = True
        if worker.state is State.STARTING:
            self._hands.say(f"{worker} serves")
            self._serve(worker, now)
            self._advance(now)

    def on_quiet(self, worker: Worker, now: float) -> None:
        """A worker has stopped accepting, and has read what was sent to it."""
        if worker.state is State.SETTLING:
            self._terminate(worker)

    def on_death(self, worker: Worker, code: int, now: float) -> None:
        """A worker's process is gone; the code as `subprocess` gives it."""
        self._on_death(worker, code, now)
        self._advance(now)

    def restart(self, now: float) -> None:
        """Replace every worker that lives now, slot by slot; what waits for its start waits no longer."""
        if self._is_ending:
            return
        self._generation += 1
        self._is_rolling = True
        for slot in self._slots:
            if slot.start_at is not None and self._has_served:
                slot.start_at = now
        self._advance(now)

    def end(self, number: int, now: float) -> None:
        """End all for this signal: let them drain. The second time: now."""
        if not self._is_ending:
            self._hands.say(f"{signal_name(number)}: the workers have {self._drain_s:g} s to drain")
            self._end_all(now)
        else:
            self.code = 128 + number
            for worker in self.workers:
                self._kill(worker)

    # -- the steps --

    def _start(self, slot: _Slot, now: float) -> None:
        """Start a worker; the one that there was becomes the former one."""
        slot.start_at = None
        slot.generation = self._generation
        worker = Worker(slot.number, self._generation, now + START_S)
        try:
            worker.pid = self._hands.start(worker)
        except OSError as error:
            what = f"worker {slot.number} can't be started ({error.strerror or error})"
            self._on_failure(slot, worker, what, 1, now)
            return
        if slot.current is not None:
            slot.former = slot.current
        slot.current = worker

    def _serve(self, worker: Worker, now: float) -> None:
        worker.state, worker.due, worker.serving_since = State.SERVING, None, now
        if not self._has_served:
            self._has_served = True
            for each in self._slots:
                if each.start_at is not None:
                    each.start_at = now
        slot = self._slots[worker.slot]
        if worker is slot.current and slot.former is not None and not slot.former.is_leaving:
            self._end(slot.former, now)

    def _on_due(self, worker: Worker, now: float) -> None:
        if worker.state is State.STARTING:
            self._hands.say(f"{worker} has served nothing so far: it is taken to be ready")
            self._serve(worker, now)
        elif worker.state is State.SETTLING:
            self._terminate(worker)
        elif worker.state is State.DRAINING:
            self._hands.say(f"{worker} did not end in time: it is killed")
            self._kill(worker)
            if self._is_ending:
                self.code = self.code or 1

    def _end(self, worker: Worker, now: float) -> None:
        """Let a worker stop accepting, then drain, then end."""
        worker.kill_at = now + self._drain_s + CLEAN_UP_S
        if worker.state is State.SERVING and self._hands.drain(worker):
            worker.state, worker.due = State.SETTLING, now + min(SETTLE_S + SEND_AWAY_S, self._drain_s)
        else:
            self._terminate(worker)

    def _terminate(self, worker: Worker) -> None:
        worker.state, worker.due = State.DRAINING, worker.kill_at
        self._hands.terminate(worker)

    def _kill(self, worker: Worker) -> None:
        worker.state, worker.due = State.KILLED, None
        self._hands.kill(worker)

    def _end_all(self, now: float) -> None:
        self._is_ending, self._is_rolling = True, False
        for slot in self._slots:
            slot.start_at = None
        for worker in self.workers:
            if not worker.is_leaving:
                self._end(worker, now)
        if all(worker.has_served for worker in self.workers):
            self._hands.ended()

    def _on_death(self, worker: Worker, code: int, now: float) -> None:
        slot = self._slots[worker.slot]
        how = f"was ended by {signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        is_former = worker is slot.former
        if is_former:
            slot.former = None
        else:
            slot.current = None
        if worker.is_leaving:
            if code not in _IN_ORDER and worker.state is not State.KILLED:
                self._hands.say(f"{worker} {how}")
                if self._is_ending:
                    self.code = self.code or 1
        elif is_former:
            self._hands.say(f"{worker} {how}; its replacement starts already")
        elif worker.state is State.STARTING:
            self._on_failure(slot, worker, f"{worker} {how}", code, now)
        elif code == 0 and not worker.has_served:
            self._hands.say(f"{worker} {how} without serving: its slot is done")
        else:
            assert worker.serving_since is not None
            self._wait(slot, now - worker.serving_since, f"{worker} {how}", now)

    def _on_failure(self, slot: _Slot, worker: Worker, what: str, code: int, now: float) -> None:
        """A worker that was to be current has ended before it served, or could not be started."""
        rest = ""
        if self._is_rolling and worker.generation == self._generation:
            self._is_rolling, rest = False, ", and the rolling restart ends"
        former = slot.former or slot.current
        if former is not None and not former.is_leaving:
            slot.current, slot.former = former, None
            self._hands.say(f"{what} before it served: the former worker stays{rest}")
        elif not self._has_served and (not self.workers or (code and slot.number == 0)):
            self._hands.say(f"{what} before it served: no worker can start")
            self.code = code if code >= 0 else 128 - code
            self._end_all(now)
        elif code == 0:
            self._hands.say(f"{what} without serving: its slot is done{rest}")
        else:
            self._wait(slot, 0.0, what, now, rest)

    def _wait(self, slot: _Slot, served_s: float, what: str, now: float, rest: str = "") -> None:
        wait_s = slot.backoff.after(served_s)
        slot.start_at = now + wait_s
        self._hands.say(f"{what}; the next one starts {f'in {wait_s:g} s' if wait_s else 'now'}{rest}")

    def _advance(self, now: float) -> None:
        """Go on with a rolling restart, if nothing is under way."""
        if not self._is_rolling or any(slot.is_moving for slot in self._slots):
            return
        old = next((slot for slot in self._slots if slot.generation < self._generation), None)
        if old is not None:
            self._start(old, now)
        else:
            self._is_rolling = False
            if all(worker.has_served for worker in self.workers):
                self._hands.restarted()
            self._hands.say("the rolling restart is done")


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
