"""One process: run the classes of one upstream file, one JSON line an event.

Called by `suite`, not by hand: `python -m tests.conformance.worker OPTIONS-AS-JSON`. Every test is announced before it
runs and reported after, so that the parent knows whom to blame when the process dies or hangs. A watchdog ends the
process with all stacks on stderr when one test takes too long: no test can hang the suite.
"""

from __future__ import annotations

import faulthandler
import fnmatch
import gc
import importlib
import json
import signal
import sys
import time
import traceback
import unittest
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

from . import subject as subjects
from .plugging import Plug
from .recipes import FILES


class Report(unittest.TestResult):
    """Writes each verdict as it falls."""

    def __init__(self, module: str, stream: TextIO, test_timeout_s: float) -> None:
        super().__init__()
        self._module = module
        self._stream = stream
        self._test_timeout_s = test_timeout_s
        self._outcome = ""
        self._detail = ""
        self._started = 0.0

    def name_of(self, test: unittest.TestCase) -> str:
        return f"{self._module}.{type(test).__name__}.{test._testMethodName}"

    def _write(self, **event: Any) -> None:
        self._stream.write(json.dumps(event) + "\n")
        self._stream.flush()

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._outcome, self._detail = "passed", ""
        self._write(event="start", id=self.name_of(test))
        faulthandler.dump_traceback_later(self._test_timeout_s, exit=True)
        self._started = time.monotonic()

    def stopTest(self, test: unittest.TestCase) -> None:
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)
        passing = sys.exc_info()[1]
        if passing is not None:
            # KeyboardInterrupt and its like pass through unittest, which asks for no verdict on them.
            self._settle("error", "".join(traceback.format_exception(passing)))
        seconds = round(time.monotonic() - self._started, 3)
        self._write(event="end", id=self.name_of(test), outcome=self._outcome, detail=self._detail, seconds=seconds)

    def _settle(self, outcome: str, detail: str) -> None:
        # A test may report several times (subtests, errors in cleanup): the worst counts, the first detail is shown.
        if self._outcome in ("passed", "skipped"):
            self._outcome, self._detail = outcome, detail

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        text = "".join(traceback.format_exception(*err))
        if not isinstance(test, unittest.TestCase):  # setUpClass or tearDownModule failed
            self._write(event="end", id=f"{self._module}.{test}", outcome="error", detail=text, seconds=0.0)
            return
        self._settle("error", text)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._settle("failed", "".join(traceback.format_exception(*err)))

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            outcome = "failed" if issubclass(err[0], test.failureException) else "error"
            self._settle(outcome, f"{subtest}\n" + "".join(traceback.format_exception(*err)))

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        if not isinstance(test, unittest.TestCase):
            return
        self._outcome, self._detail = "skipped", reason

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._settle("failed", "unexpected success")


def flat(suite: Any) -> Iterator[unittest.TestCase]:
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flat(item)
        else:
            yield item


def main(options: dict[str, Any]) -> int:
    """Run `options["module"]`; events go to the file `options["events"]`. Always 0 if it came to the end."""
    # Started in the background, a process has Ctrl-C ignored: tests of runners press it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    module = options["module"]
    subject = subjects.load(options["loop"], options["poller"])
    utils = importlib.import_module("test.test_asyncio.utils")
    upstream = importlib.import_module(f"test.test_asyncio.{module}")
    plug = Plug(subject, upstream, utils)
    loader = unittest.TestLoader()
    with open(options["events"], "a", encoding="utf-8") as stream:
        report = Report(module, stream, options["test_timeout_s"])
        stream.write(json.dumps({"event": "subject", "describe": subject.describe}) + "\n")
        done, only, waiting = set(options["done"]), options["only"], options["waiting"]
        chosen = unittest.TestSuite()
        shard, shards = options["shard"]
        for index, cls in enumerate(FILES[module](plug)):
            if index % shards != shard:
                continue
            kept = unittest.TestSuite()
            for test in flat(loader.loadTestsFromTestCase(cls)):
                name = report.name_of(test)
                if name in done or not any(fnmatch.fnmatchcase(name, pattern) for pattern in only):
                    continue
                if _matches(name, options["never"]):
                    report._write(event="end", id=name, outcome="failed", detail="not run: it hangs", seconds=0.0)
                    continue
                feature = next((f for f, patterns in waiting.items() if _matches(name, patterns)), None)
                if feature is not None and _still_missing(subject, options["probes"][feature]):
                    report._write(event="end", id=name, outcome="not yet", detail=feature, seconds=0.0)
                    continue
                kept.addTest(test)
            chosen.addTest(kept)
        # Most tests end in full collections; what was made until here need not be looked at again each time.
        gc.collect()
        gc.freeze()
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            chosen.run(report)
        stream.write(json.dumps({"event": "finished"}) + "\n")
    # A thread that a test left behind may keep the interpreter from ending.
    faulthandler.dump_traceback_later(options["test_timeout_s"], exit=True)
    return 0


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _still_missing(subject: subjects.Subject, probe: str) -> bool:
    return subject.name == "weft" and subject.lacks(probe)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
