"""The worked example, in small: counts that agree with a plain count, under a limit that the file exceeds."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from examples import word_count

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "words.txt"
    word_count.generate(path, 2)
    return path


@pytest.mark.parametrize("chunk_bytes", [1000, 4096, 1 << 20, 1 << 30])
async def test_chunks_count_each_word_once(world, words, chunk_bytes):
    counts, fits = await word_count.count_words(words, "threads", chunk_bytes=chunk_bytes, progress=False)
    assert counts == Counter(words.read_bytes().split()) and fits


@pytest.mark.slow_test(60)
@pytest.mark.leaky(
    "Dask keeps a thread for large messages, and the tracker of what processes share, until this one exits"
)
async def test_the_same_on_dask(world, words):
    pytest.importorskip("distributed")
    counts, fits = await word_count.count_words(words, "dask", workers=1, chunk_bytes=300_000, progress=False)
    assert counts == Counter(words.read_bytes().split()) and fits


@pytest.mark.slow_test(110)
def test_a_file_that_fits_into_no_process():
    """A process of its own, for the limit goes to all that it starts."""
    pytest.importorskip("loky")
    command = [sys.executable, "-m", "examples.word_count", "--megabytes", "130", "--memory", "120"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "it fits into no process: MemoryError" in done.stdout and "words, 21" in done.stdout
