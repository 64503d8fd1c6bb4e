"""A short soak, in a process of its own, and the judge of one."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from soak.flatness import growth

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow_test(120)
def test_a_short_soak_stays_flat():
    path = [*filter(None, sys.path), str(ROOT)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--minutes", "0.33"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    print(f"\n{result}")
    assert not result["absent"]
    assert len(result["rounds"]) >= 12
    # Everything in every round, some kinds six times.
    assert result["rounds"]["tcp"] == 6 * min(result["rounds"].values()) > 100
    assert result["tasks_left"] >= 0


def test_the_judge_sees_a_leak_through_the_noise():
    dice = random.Random(7)
    noise = [50_000 + dice.uniform(0, 2_000) for _ in range(200)]
    assert abs(growth(noise)) < 500
    assert growth([size + 30 * number for number, size in enumerate(noise)]) > 1_500


def test_the_warm_up_is_no_leak():
    assert growth([min(number, 40) * 100 for number in range(200)]) == 0


def test_too_few_samples_are_no_verdict():
    with pytest.raises(ValueError, match="too few"):
        growth([1.0] * 5)
