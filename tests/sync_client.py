"""A synchronous client for the tests of `asyncify`: cursors, blocks, generators, callbacks, class methods and properties."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import threading

VARIABLE = contextvars.ContextVar("variable", default="default")


class Base:
    """What clients have in common."""

    def ping(self):
        return "pong"


class Row(tuple):
    pass


@dataclasses.dataclass
class Record:
    number: int


class Cursor:
    """Its own iterator, as database cursors are."""

    def __init__(self, client, count):
        self.client = client
        self.left = list(range(count))
        self.closed = False

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        return self.left.pop(0)

    def fetch(self):
        return self.left.pop(0) if self.left else None

    def again(self):
        return self

    def close(self):
        self.closed = True


class Block:
    def __init__(self, client, fails=False):
        self.client = client
        self.fails = fails

    def __enter__(self):
        if self.fails:
            raise ValueError("no entry")
        self.client.log.append("enter")
        return Cursor(self.client, 2)

    def __exit__(self, kind, error, trace):
        self.client.log.append(("exit", kind))
        return kind is KeyError


class Client(Base):
    """A client."""

    LIMIT = 7
    made_in = None

    def __init__(self, name="x", *, gate=None):
        self.name = name
        self.gate = gate
        self.log = []
        self.closed_times = 0
        self.thread = threading.current_thread()
        self.callbacks = {}
        self.twice = lambda number: 2 * number

    @classmethod
    def make(cls, name):
        return cls(name)

    @staticmethod
    def add(one, other):
        return one + other

    @property
    def size(self):
        self.log.append(threading.current_thread())
        return 5

    def where(self):
        return threading.current_thread()

    def echo(self, *args, **kwargs):
        return args, kwargs

    def cursor(self, count=3):
        return Cursor(self, count)

    def cursors(self):
        return [Cursor(self, 1), Row((1, 2)), Record(3), {"x": 1}]

    def named(self):
        return {"one": Cursor(self, 1), "two": 2}

    def generate(self, count):
        try:
            for number in range(count):
                self.log.append(number)
                yield number
        finally:
            self.log.append(("closed", threading.current_thread()))

    def block(self, fails=False):
        return Block(self, fails)

    @contextlib.contextmanager
    def other_block(self):
        self.log.append("in")
        try:
            yield Cursor(self, 1)
        finally:
            self.log.append("out")

    def wait(self):
        self.gate()

    def fail(self):
        raise KeyError("lost")

    def set_callback(self, function):
        self.callbacks[function] = True

    def forget_callback(self, function):
        del self.callbacks[function]

    def call_back(self, *args):
        return [function(*args) for function in self.callbacks]

    def is_cursor(self, cursor):
        return type(cursor) is Cursor

    def context(self):
        return VARIABLE.get()

    def rows(self):
        return [1, 2, 3]

    async def native(self):
        await asyncio.sleep(0)
        return threading.current_thread()

    def close(self):
        self.closed_times += 1


class Better(Client):
    def extra(self):
        return "extra"


def sync(handle):
    """The synchronous object of a handle, to look into."""
    return handle._weft_object
