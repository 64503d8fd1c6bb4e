"""The supervisor's state machine under long random orders of events, in a world that keeps its promises in view."""

from __future__ import annotations

import signal

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from slot_world import World

from weft.workers._slots import State, Worker


class Orders(RuleBasedStateMachine):
    """Long orders, with more ways to fail."""

    @initialize(count=st.integers(1, 3))
    def begin(self, count: int) -> None:
        self.world = World(count)

    def some(self, data: st.DataObject, *states: State) -> Worker | None:
        found = [each for each in self.world.alive if each.state in states]
        return data.draw(st.sampled_from(found)) if found else None

    @rule(data=st.data())
    def serve(self, data) -> None:
        if worker := self.some(data, State.STARTING):
            self.world.serve(worker)

    @rule(data=st.data())
    def say_what_is_late(self, data) -> None:
        if worker := self.some(data, *State):
            self.world.quiet(worker)
            if data.draw(st.booleans()):
                self.world.serve(worker)

    @rule(data=st.data(), code=st.sampled_from([0, 1, 3, 143, -signal.SIGKILL, -signal.SIGTERM]))
    def die(self, data, code: int) -> None:
        if worker := self.some(data, *State):
            self.world.die(worker, code)

    @rule()
    def restart(self) -> None:
        self.world.restart()

    @rule(cannot_start=st.booleans(), cannot_tell=st.booleans())
    def trouble(self, cannot_start: bool, cannot_tell: bool) -> None:
        self.world.cannot_start, self.world.cannot_tell = cannot_start, cannot_tell

    @rule(seconds=st.sampled_from([0.01, 0.2, 1.0, 5.0, 11.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)

    @precondition(lambda self: not self.world.is_ending)
    @rule(data=st.data())
    def end(self, data) -> None:
        if data.draw(st.integers(0, 9)) == 0:
            self.world.end()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.be_good()
            self.world.be_deaf()


TestOrders = pytest.mark.slow_test(600)(Orders.TestCase)
