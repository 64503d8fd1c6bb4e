"""1,000 random schedules a transport: nothing is lost, told twice, left behind, or done to a number that was closed.

Each seed is one program (`schedules/`), run with every closed number taken at once by a stranger (`strangers.py`). A
failure names its seed; WEFT_SCHEDULES=20000 asks for more of them. asyncio does not keep these rules (it tells of one end
of stream again after a resume_reading), so there is no oracle here but the rules themselves.
"""

from __future__ import annotations

import functools
import os

import leaks
import pytest
import worlds
from schedules import datagrams, kinds, pipes, streams
from strangers import Strangers

SCHEDULES = int(os.environ.get("WEFT_SCHEDULES", "1000"))
BATCHES = 10
PATIENCE_S = 120 * max(1, SCHEDULES // 1000)
#: What makes the schedule of a seed.
KINDS = {
    kind.name: functools.partial(module.Schedule, kind)
    for module, kinds_of_it in ((streams, kinds.STREAMS), (datagrams, datagrams.KINDS), (pipes, pipes.KINDS))
    for kind in kinds_of_it
}


def play(world, kind, seed):
    """One schedule, from nothing to nothing."""
    before = leaks.open_fds()
    with Strangers() as strangers:
        loop = strangers.new_loop(world)
        try:
            schedule = KINDS[kind](seed)
            loop.run_until_complete(worlds.without_orphans(schedule.run()))
            strangers.look_into(loop)
            assert not loop._poller.owners
            assert not len(loop._timers)
            assert not loop._ready_count()
        finally:
            loop.close()
    reports = world.take_reports()
    complaints = schedule.complaints + strangers.complaints + [f"reported: {report}" for report in reports]
    complaints += [f"left open: {fd} {what}" for fd, what in leaks.open_fds().items() if before.get(fd) != what]
    assert not complaints, f"{kind} schedule {seed}:\n  " + "\n  ".join(complaints[:12])
    return schedule, strangers


@pytest.mark.weft_only
@pytest.mark.slow_test(PATIENCE_S)
@pytest.mark.timeout(2 * PATIENCE_S)
@pytest.mark.parametrize("batch", range(BATCHES))
@pytest.mark.parametrize("kind", KINDS)
def test_schedules(world, kind, batch):
    seeds = range(batch, SCHEDULES, BATCHES)
    received = numbers = sent = missing = 0
    for seed in seeds:
        schedule, strangers = play(world, kind, seed)
        received += schedule.received
        numbers += strangers.count
        sent += schedule.count
        missing += schedule.missing
    # They did something: a judge of nothing finds nothing.
    assert received > 1_000 * len(seeds)
    assert numbers > 2 * len(seeds)
    # UDP on a busy machine: a burst or two.
    assert missing <= 20 + sent // 1_000
