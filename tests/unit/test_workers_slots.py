"""The supervisor's state machine: every short order of events, and the words it has for each."""

from __future__ import annotations

import signal

import pytest
from slot_world import DRAIN_S, World, ready

from weft.workers._slots import CLEAN_UP_S, FIRST_ALONE_S, START_S, State


# What can happen next; a name stands for the first worker it fits.
def moves(world: World) -> list[tuple[str, int, int]]:
    found = [("restart", 0, 0), ("end", 0, 0), ("due", 0, 0)] if not world.slots.is_over else []
    for place, worker in enumerate(world.alive):
        found += [("die", place, code) for code in (0, 1)]
        if worker.state is State.STARTING:
            found.append(("serve", place, 0))
        elif worker.state is State.SETTLING:
            found.append(("quiet", place, 0))
    return found


def make(world: World, move: tuple[str, int, int]) -> None:
    what, place, code = move
    if what == "restart":
        world.restart()
    elif what == "end":
        world.end()
    elif what == "due":
        due = world.slots.next_due()
        if due is not None:
            world.wait(due - world.now)
    elif what == "die":
        world.die(world.alive[place], code)
    elif what == "serve":
        world.serve(world.alive[place])
    else:
        world.quiet(world.alive[place])


def play(count: int, is_up: bool, path: tuple) -> World:
    world = ready(count) if is_up else World(count)
    for move in path:
        make(world, move)
    return world


@pytest.mark.slow_test(100)
@pytest.mark.parametrize(("count", "is_up", "depth"), [(1, False, 5), (1, True, 5), (2, False, 4), (2, True, 4)])
def test_every_short_order_of_events(count: int, is_up: bool, depth: int) -> None:
    """Each is played, then goes well from there, or ends with processes that react to nothing."""
    paths: list[tuple] = [()]
    while paths:
        path = paths.pop()
        world = play(count, is_up, path)
        if len(path) < depth:
            paths += [(*path, move) for move in moves(world)]
        world.be_good()
        play(count, is_up, path).be_deaf()


def test_the_first_worker_starts_alone() -> None:
    world = World(3)
    assert [each.slot for each in world.alive] == [0]
    world.wait(FIRST_ALONE_S - 0.1)
    assert len(world.alive) == 1
    world.wait(0.2)
    assert [each.slot for each in world.alive] == [0, 1, 2]

    world = World(3)
    world.serve(world.alive[0])
    assert [each.slot for each in world.alive] == [0, 1, 2]


@pytest.mark.parametrize(
    ("code", "exit_code", "how"), [(0, 0, "ended with exit code 0"), (-11, 139, "was ended by SIGSEGV")]
)
def test_a_program_that_cannot_start(code: int, exit_code: int, how: str) -> None:
    world = World(2)
    world.die(world.alive[0], code)
    assert world.said == [f"worker 0 (pid 1) {how} before it served: no worker can start"]
    assert world.slots.is_over and world.slots.code == exit_code


def test_a_program_that_cannot_start_and_takes_long_to_say_so() -> None:
    """The others have started meanwhile: they end, too."""
    world = World(2)
    world.wait(FIRST_ALONE_S)
    first, second = world.alive
    world.die(first, 3)
    assert world.told == [("term", second)]
    world.die(second, -signal.SIGTERM)
    assert world.slots.is_over and world.slots.code == 3
    assert world.said == [
        "worker 0 (pid 1) has served nothing so far: the others start all the same",
        "worker 0 (pid 1) ended with exit code 3 before it served: no worker can start",
    ]


def test_another_worker_that_fails_is_not_the_end() -> None:
    """Programs without a server have workers, too."""
    world = World(2)
    world.wait(FIRST_ALONE_S)
    world.die(world.alive[1], 3)
    assert world.said[1:] == ["worker 1 (pid 2) ended with exit code 3; the next one starts in 0.1 s"]
    assert len(world.alive) == 1


def test_a_process_that_cannot_be_started() -> None:
    world = ready(1)
    world.cannot_start = True
    world.wait(10.0)
    world.die(world.alive[0], 1)
    assert world.said[1:] == [
        "worker 0 (pid 1) ended with exit code 1; the next one starts now",
        "worker 0 can't be started (Resource temporarily unavailable); the next one starts in 0.1 s",
    ]


def test_a_worker_that_has_nothing_to_serve() -> None:
    """It is taken to be ready; it may end, and nobody starts it again."""
    world = World(1)
    world.wait(START_S)
    assert world.alive[0].state is State.SERVING
    world.die(world.alive[0], 0)
    assert world.said[1:] == ["worker 0 (pid 1) ended with exit code 0 without serving: its slot is done"]
    assert world.slots.is_over and world.slots.code == 0


def test_back_off_counts_from_the_first_moment_of_serving() -> None:
    world = ready(1)
    world.wait(10.0)
    world.die(world.alive[0], 1)  # an old one: at once
    for wait in ("0.1", "0.2", "0.4"):
        world.wait(9.0)  # slow to start is no reason to start at once
        world.serve(world.alive[0])
        world.die(world.alive[0], 1)
        assert world.said[-1].endswith(f"the next one starts in {wait} s")
        assert not world.alive
        world.wait(float(wait))


def test_a_replacement_that_dies_leaves_the_former_worker() -> None:
    world = ready(2)
    former = world.of(0)[0]
    world.restart()
    replacement = world.of(0)[1]
    world.die(replacement, 1)
    assert world.alive == [former, *world.of(1)] and former.state is State.SERVING
    assert world.said[-1] == (
        "worker 0 (pid 3) ended with exit code 1 before it served: the former worker stays, and the rolling restart ends"
    )


def test_a_second_request_outlives_a_replacement_of_the_first() -> None:
    """The program was mended meanwhile: so the death of what was started before says nothing about it."""
    world = ready(1)
    world.restart()
    broken = world.of(0)[1]
    world.restart()
    world.die(broken, 1)
    assert world.said[-1].endswith("before it served: the former worker stays")
    world.be_good()
    assert world.said[-1] == "the rolling restart is done"
    assert world.alive[0].generation == 2


def test_a_worker_that_dies_while_its_replacement_starts() -> None:
    world = ready(1)
    world.restart()
    former, replacement = world.alive
    world.die(former, -signal.SIGKILL)
    assert world.said[-1] == "worker 0 (pid 1) was ended by SIGKILL; its replacement starts already"
    assert world.alive == [replacement]
    world.serve(replacement)
    assert world.said[-1] == "the rolling restart is done"


def test_the_exit_code_tells_of_the_end_and_not_of_a_restart() -> None:
    world = ready(1)
    world.restart()
    former, replacement = world.alive
    world.serve(replacement)
    world.wait(DRAIN_S + CLEAN_UP_S + 1.0)
    assert world.said[-1] == f"{former} did not end in time: it is killed"
    world.die(former, -signal.SIGKILL)
    world.end()
    world.die(replacement, 0)
    assert world.slots.code == 0

    for code, exit_code in ((1, 1), (-signal.SIGSEGV, 1), (0, 0), (143, 0), (-signal.SIGTERM, 0)):
        world = ready(1)
        world.end()
        world.die(world.alive[0], code)
        assert world.slots.code == exit_code


def test_the_second_signal_kills() -> None:
    world = ready(1)
    worker = world.alive[0]
    world.end(signal.SIGINT)
    world.end(signal.SIGINT)
    assert world.told == [("drain", worker), ("kill", worker)]
    world.die(worker, -signal.SIGKILL)
    assert world.slots.is_over and world.slots.code == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_while_a_replacement_starts(number: int) -> None:
    """What has served settles first; what has accepted nothing is ended at once."""
    world = ready(1)
    world.restart()
    former, replacement = world.alive
    world.end(number)
    assert world.told == [("term", replacement), ("drain", former)]
    world.be_good()
    assert world.slots.code == 0
