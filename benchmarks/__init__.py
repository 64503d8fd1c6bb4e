"""The benchmark suite: what an event loop costs, as ratios of interleaved runs. `python -m benchmarks --help`.

Rules for whoever edits this package:

- A row is a program a user could have written. Nothing is tuned for one loop, and no row is dropped because it loses.
- A figure is CPU time of the whole process (all threads), never wall-clock throughput: the machine is shared.
- A sample is one (row, subject) in a fresh process. Rounds are interleaved over the subjects, so that drift of the
  machine hits all alike; a ratio is taken within a round. No sample is drawn again: a failed one is shown as failed.
- The process under measure imports only the standard library, the loop, and `rows` or `servers`; never the reports.
"""
