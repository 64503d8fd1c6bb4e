"""A world for the supervisor's state machine: processes that do what a test says, and the promises that hold for them."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from weft.workers._slots import CLEAN_UP_S, Slots, State, Worker

DRAIN_S = 3.0


class World:
    """Processes that do what a test says, a clock that it sets, and the promises, looked at after each event."""

    def __init__(self, count: int) -> None:
        self.now = 1000.0
        self.count = count
        self.alive: list[Worker] = []
        self.told: list[tuple[str, Worker]] = []
        self.said: list[str] = []
        self.cannot_start = False
        self.cannot_tell = False
        self.restarts = 0
        self.pids = 0
        self.is_ending = False
        self.slots = Slots(count, DRAIN_S, self, self.now)
        self.event(lambda: self.slots.tick(self.now))

    # -- hands --

    def start(self, worker: Worker) -> int:
        assert not self.is_ending, "started after the beginning of the end"
        assert sum(each.slot == worker.slot for each in self.alive) < 2, "a third worker in a slot"
        if self.cannot_start:
            raise OSError(11, "Resource temporarily unavailable")
        self.pids += 1
        self.alive.append(worker)
        return self.pids

    def drain(self, worker: Worker) -> bool:
        self._may_end(worker)
        self.told.append(("drain", worker))
        return not self.cannot_tell

    def terminate(self, worker: Worker) -> None:
        if ("drain", worker) not in self.told:
            self._may_end(worker)
        assert ("term", worker) not in self.told, "SIGTERM twice"
        self.told.append(("term", worker))

    def kill(self, worker: Worker) -> None:
        assert worker in self.alive
        self.told.append(("kill", worker))

    def restarted(self) -> None:
        assert all(each.has_served for each in self.alive)

    def ended(self) -> None:
        assert all(each.has_served and each.is_leaving for each in self.alive)

    def say(self, line: str) -> None:
        assert "\n" not in line
        self.said.append(line)
        if line == "the rolling restart is done":
            assert all(each.generation == self.restarts for each in self.alive)
            for number in range(self.count):
                assert [each.state for each in self.of(number)] == [State.SERVING] or self.is_done(number)

    def _may_end(self, worker: Worker) -> None:
        """Nobody who serves is told to end before another serves in its place."""
        assert worker in self.alive
        others = [each for each in self.alive if each.slot == worker.slot and each is not worker]
        assert (
            self.is_ending
            or any("no worker can start" in line for line in self.said)
            or ([each.state for each in others] == [State.SERVING])
        ), f"{worker} is told to end, and nobody serves in its place"

    # -- events --

    def event(self, happen: Callable[[], object]) -> None:
        """Something happens; then everything that was promised is looked at."""
        happen()
        self.slots.tick(self.now)
        due = self.slots.next_due()
        assert due is None or due > self.now, "the supervisor would spin"
        assert sorted(map(id, self.slots.workers)) == sorted(map(id, self.alive))
        outcomes = self.outcomes()
        assert outcomes <= self.restarts
        if self.restarts and not self.slots._is_rolling and not self.slots._is_ending:
            assert outcomes, "a rolling restart ended without a word"

    def outcomes(self) -> int:
        """How many rolling restarts have had an end."""
        return sum("the rolling restart is done" in line or "the rolling restart ends" in line for line in self.said)

    def serve(self, worker: Worker) -> None:
        self.event(lambda: self.slots.on_serving(worker, self.now))

    def quiet(self, worker: Worker) -> None:
        self.event(lambda: self.slots.on_quiet(worker, self.now))

    def die(self, worker: Worker, code: int) -> None:
        self.alive.remove(worker)
        self.event(lambda: self.slots.on_death(worker, code, self.now))

    def restart(self) -> None:
        self.restarts += not self.is_ending
        self.event(lambda: self.slots.restart(self.now))

    def end(self, number: int = signal.SIGTERM) -> None:
        self.is_ending = True
        self.event(lambda: self.slots.end(number, self.now))

    def wait(self, seconds: float) -> None:
        """Time passes; the supervisor wakes when it wanted to."""
        until = self.now + seconds
        while (due := self.slots.next_due()) is not None and due <= until:
            self.now = max(self.now, due)
            self.event(lambda: None)
        self.now = until

    # -- shorthands --

    def of(self, slot: int) -> list[Worker]:
        return [each for each in self.alive if each.slot == slot]

    def is_done(self, slot: int) -> bool:
        return not self.of(slot) and any(f"worker {slot} " in line and "its slot is done" in line for line in self.said)

    def be_good(self) -> None:
        """From now on every process does what it should, until nothing happens any more."""
        self.cannot_start = self.cannot_tell = False
        for _ in range(400):
            for worker in list(self.alive):
                if worker.state is State.STARTING:
                    self.serve(worker)
                elif worker.state is State.SETTLING:
                    self.quiet(worker)
                elif worker.is_leaving:
                    self.die(worker, 0)
            if all(worker.state is State.SERVING for worker in self.alive):
                if self.slots.next_due() is None:
                    break
                self.wait(10.0)
        else:
            pytest.fail(f"it does not come to rest: {self.slots.workers}, {self.said[-5:]}")
        assert not self.slots._is_rolling, "the rolling restart has no end"
        if self.slots._is_ending:
            assert self.slots.is_over
        else:
            for number in range(self.count):
                assert [each.state for each in self.of(number)] == [State.SERVING] or self.is_done(number)

    def be_deaf(self) -> None:
        """Nothing reacts but to SIGKILL: the end comes all the same."""
        if not self.is_ending and not self.slots.is_over:
            self.end()
        self.wait(DRAIN_S + CLEAN_UP_S + 0.01)
        for worker in list(self.alive):
            assert ("kill", worker) in self.told
            self.die(worker, -signal.SIGKILL)
        assert self.slots.is_over


def ready(count: int) -> World:
    """All slots serve."""
    world = World(count)
    world.be_good()
    assert len(world.alive) == count
    return world
