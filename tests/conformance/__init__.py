"""CPython's own asyncio test-suite, run on another loop.

``test.test_asyncio`` ships with each interpreter. Its generic classes leave a hole where the loop, the Task or the
Future goes; this package fills the holes and runs the result, one process a file::

    python -m tests.conformance                      # Weft, default poller
    python -m tests.conformance --loop asyncio       # the oracle: what passes on this machine at all
    python -m tests.conformance --only '*Gather*' -v
    python -m tests.conformance.proof --python ...   # every Python x edition x poller -> docs/conformance.md

The parts, top down: ``__main__`` (command line) -> ``suite`` (processes, verdicts) -> ``worker`` (one file) ->
``recipes`` (which classes of a file, filled with what) -> ``plugging`` -> ``subject`` (the loop under test).
``exclusions.toml`` is the only place where a test may be excused, ``features.toml`` the only place where it may wait.
"""
