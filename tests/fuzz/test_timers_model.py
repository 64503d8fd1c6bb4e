"""Timers against a sorted list: made, cancelled, run, also from within one another, in any order."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

pytestmark = [pytest.mark.weft_only, pytest.mark.slow_test(600)]

PAST = st.integers(-6, -1)
WHENS = st.one_of(PAST, st.integers(1, 5))  # halves of a second ago, or hours from now
ACTIONS = st.one_of(
    st.none(),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(st.just("add"), WHENS),
)


class TimerMachine(RuleBasedStateMachine):
    """The model: a list of [when, number, is cancelled, action], run in the order of (when, number)."""

    world = None  # set by the test

    def __init__(self):
        super().__init__()
        self.loop = self.world.new_loop()
        self.now = self.loop.time()
        self.handles, self.trace = [], []
        self.waiting, self.expected = [], []
        self.timers = []

    def when(self, step):
        return self.now + (step * 0.5 if step < 0 else step * 3600.0)

    # -- what the loop does --

    def add(self, step, action):
        self.handles.append(self.loop.call_at(self.when(step), self.fire, len(self.handles), action))

    def fire(self, number, action):
        self.trace.append(number)
        if action and action[0] == "add":
            self.add(action[1], None)
        elif action and action[1] < len(self.handles):
            self.handles[action[1]].cancel()

    # -- what the model does --

    def model_add(self, step, action):
        self.timers.append([step, len(self.timers), False, action])
        self.waiting.append(self.timers[-1])

    def model_cancel(self, number):
        if number < len(self.timers):
            timer = self.timers[number]
            timer[2] = True
            if timer in self.waiting:
                self.waiting.remove(timer)

    def model_turn(self):
        due = sorted(timer for timer in self.waiting if timer[0] < 0)
        self.waiting = [timer for timer in self.waiting if timer[0] > 0]
        for _step, number, _, action in due:
            if self.timers[number][2]:
                continue
            self.expected.append(number)
            if action and action[0] == "add":
                self.model_add(action[1], None)
            elif action:
                self.model_cancel(action[1])

    # -- what happens --

    @rule(step=WHENS, action=ACTIONS)
    def make(self, step, action):
        self.add(step, action)
        self.model_add(step, action)
        assert len(self.loop._timers) == len(self.waiting)

    @rule(number=st.integers(0, 40))
    def cancel(self, number):
        if number < len(self.handles):
            self.handles[number].cancel()
        self.model_cancel(number)
        assert len(self.loop._timers) == len(self.waiting)

    @rule()
    def turn(self):
        self.loop.stop()
        self.loop.run_forever()
        self.model_turn()
        assert self.trace == self.expected
        assert len(self.loop._timers) == len(self.waiting)
        assert [handle._scheduled for handle in self.handles] == [timer in self.waiting for timer in self.timers]

    def teardown(self):
        self.loop.close()
        self.handles.clear()


def test_timers(world):
    machine = type("Timers", (TimerMachine,), {"world": world})
    run_state_machine_as_test(machine)
