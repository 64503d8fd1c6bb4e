"""`python -m examples.word_count`: counts the words of a file that is larger than any process here may be.

A file is generated; every process gets a limit on its memory (data, not shared libraries) that is smaller than the
file, so that reading it whole fails, which is shown. Then it is counted by chunks over `Executor.map`: at most
`bound` chunks are under way, each worker reads its own, and only counts travel. The same program runs over
processes, threads or Dask.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import weft
from weft.bridge import executor
from weft.bridge.executors import EngineName

MEGABYTE = 1 << 20
WORDS = [(first + middle + last) * 3 for first in "bdklmnrst" for middle in ("a", "e", "io", "u") for last in "lmnrst"]


@dataclass(frozen=True)
class Chunk:
    """A part of a file. The words that begin in it belong to it."""

    path: str
    begin: int
    end: int


def generate(path: Path, megabytes: int) -> None:
    """Write a file of random words, a megabyte at a time; the same for the same size."""
    chance = random.Random(megabytes)
    blocks = [" ".join(chance.choices(WORDS, k=MEGABYTE // 10)).encode()[: MEGABYTE - 1] + b" " for _ in range(4)]
    with path.open("wb") as file:
        for number in range(megabytes):
            file.write(blocks[number % len(blocks)])


def chunks(path: Path, size: int) -> Iterator[Chunk]:
    """The parts of a file; made one after the other, as they are asked for."""
    total = path.stat().st_size
    for begin in range(0, total, size):
        yield Chunk(str(path), begin, min(begin + size, total))


def count(chunk: Chunk) -> Counter[bytes]:
    """Count the words of a chunk. In a worker."""
    with open(chunk.path, "rb") as file:
        if chunk.begin:
            # A word that began before belongs to the chunk before.
            file.seek(chunk.begin - 1)
            previous = file.read(1)
            text = file.read(chunk.end - chunk.begin)
            if not previous.isspace():
                text = text.partition(b" ")[2]
        else:
            text = file.read(chunk.end)
        if not text.endswith(b" "):
            while (more := file.read(1)) and not more.isspace():
                text += more
    return Counter(text.split())


def read_whole(path: str) -> int:
    """What a program does that has not heard of chunks."""
    with open(path, "rb") as file:
        return len(file.read())


def limit_memory(megabytes: int) -> None:
    """For this process, and those that it starts."""
    resource.setrlimit(resource.RLIMIT_DATA, (megabytes * MEGABYTE, megabytes * MEGABYTE))


async def count_words(
    path: Path, engine: EngineName, *, workers: int = 2, chunk_bytes: int = 4 * MEGABYTE, progress: bool = True
) -> tuple[Counter[bytes], bool]:
    """The words of a file, and whether one process could have read it whole."""
    words: Counter[bytes] = Counter()
    async with executor(engine, workers=workers) as ex:
        try:
            fits = await ex.run(read_whole, str(path)) >= 0
        except MemoryError:
            fits = False
        parts = chunks(path, chunk_bytes)
        title = "counting words" if progress else None
        async with ex.map(count, parts, ordered=False, bound=4 * workers, progress=title) as counts:
            async for each in counts:
                words.update(each)
    return words, fits


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.word_count", description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=300, help="size of the file (300)")
    parser.add_argument("--memory", type=int, default=200, help="limit of a process's data, in megabytes (200)")
    parser.add_argument("--engine", choices=get_args(EngineName), default="processes")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="weft-words-") as folder:
        path = Path(folder, "words.txt")
        generate(path, options.megabytes)
        limit_memory(options.memory)
        words, fits = weft.run(count_words(path, options.engine, workers=options.workers))
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) // 1024
    print(
        f"{options.megabytes} MB, {os.cpu_count()} processors, {options.engine}, at most {options.memory} MB of data a process"
    )
    print("one process could read it whole" if fits else "read whole, it fits into no process: MemoryError")
    print(f"{words.total():,} words, {len(words)} different ones; the largest process had {peak} MB resident")
    print(", ".join(f"{word.decode()} {times:,}" for word, times in words.most_common(3)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
