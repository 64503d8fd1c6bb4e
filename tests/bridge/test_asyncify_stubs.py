"""`weft asyncify`: stubs that mypy and pyright accept in strict mode, and what they say of real clients."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import database_servers
import pytest
from worlds import since

from weft import _edition
from weft.cli import _sources, main

CLIENTS = {
    "db": "sqlite3:Connection",
    "cache": "redis:Redis",
    "sql": "psycopg:Connection",
    "own": "own_client:Client",
}

OWN = """
from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Optional, Self, TypeVar, overload

T = TypeVar("T")
_Alias = int | str


@dataclass
class Record:
    number: int


class Base:
    limit: int = 5

    def ping(self) -> bool: ...
    def list(self) -> list[str]: ...
    def both(self) -> list[int]: ...


class Item(Generic[T]):
    def get(self) -> T: ...
    def again(self) -> Self: ...


class Client(Base):
    def __init__(self, name: str, *, gate: Optional[Callable[[int], Item[int]]] = None) -> None:
        self.name = name
        self.count: int = 0

    @classmethod
    def make(cls, name: str = "x") -> Client: ...
    @staticmethod
    def add(one: int, other: int = 2) -> int: ...
    @property
    def size(self) -> int: ...
    def item(self) -> Item[str]: ...
    def maybe(self) -> "Item[bytes] | None": ...
    def items(self) -> list[Item[int]]: ...
    def record(self) -> Record: ...
    def generate(self, count: int) -> Generator[Item[int], None, None]: ...
    def take(self, item: Item[int], alias: _Alias = "x", none: int = None, *rest: dict, **more: _Alias) -> _Alias: ...
    @contextmanager
    def block(self) -> Iterator[Item[int]]: ...
    @overload
    def load(self, one: int) -> int: ...
    @overload
    def load(self, one: str) -> Item[int]: ...
    def load(self, one): ...
    def made(self):
        return Item()
    def made_of(self):
        yield 5
    def _private(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...
    def __iter__(self) -> Iterator[str]: ...
"""

USES = """
from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, assert_type

from cache import AsyncRedis
from db import AsyncConnection, AsyncCursor
from own import AsyncClient
from sql import AsyncConnection as AsyncPg
from weft.bridge import AsyncHandle, AsyncItems

if TYPE_CHECKING:
    from cache import AsyncPipeline
    from db import AsyncBlob
    from own import AsyncBase, AsyncItem
    from sql import AsyncCopy, AsyncServerCursor, AsyncTransaction
    from sql import AsyncCursor as AsyncPgCursor


async def use_db() -> None:
    async with AsyncConnection(":memory:") as db:
        assert_type(db, AsyncConnection)
        assert_type(await db.execute("create table t (a)"), AsyncCursor)
        cursor = await db.execute("select a from t")
        assert_type(await cursor.fetchall(), list[Any])
        assert_type(await cursor.rowcount, int)
        assert_type(await cursor.connection, AsyncConnection)
        assert_type(await cursor.execute("select ?", (1,)), AsyncCursor)
        await asyncio.gather(asyncio.create_task(db.execute("select 1")), db.commit())
        async for row in db.execute("select 5"):
            assert_type(row, Any)
        async for line in db.iterdump():
            assert_type(line, str)
        async with db.cursor() as other:
            assert_type(other, AsyncCursor)
        async with db:
            assert_type(await db.total_changes, int)

        async def double(number: int) -> int:
            return 2 * number

        await db.create_function("double", 1, double)

        def triple(number: int) -> int:
            return 3 * number

        await db.create_function("triple", 1, triple)
    handle: AsyncHandle = db
    assert handle


async def use_blob(db: AsyncConnection, target: AsyncConnection) -> int:
    await db.backup(target)
    async with db.blobopen("t", "a", 1) as blob:
        assert_type(blob, AsyncBlob)
        assert_type(await blob.read(), bytes)
        return await blob.tell()


async def use_redis() -> None:
    async with AsyncRedis(port=1, decode_responses=True) as client:
        assert_type(await client.get("x"), bytes | str | None)
        async with client.pipeline() as pipe:
            assert_type(pipe, AsyncPipeline)
        assert_type(await client.scan_iter("x*"), AsyncItems[Any])
        async for key in client.scan_iter("x*"):
            print(key)
    async with AsyncRedis.from_url("redis://x") as client:
        assert_type(client, AsyncRedis)


async def use_psycopg() -> None:
    async with AsyncPg.connect("x") as connection:
        cursor = await connection.execute("select 1")
        assert_type(await cursor.fetchone(), tuple[Any, ...] | None)
        async for row in cursor:
            assert_type(row, tuple[Any, ...])
        async with connection.cursor("name") as server:
            assert_type(server, AsyncServerCursor[tuple[Any, ...]])
        async with connection.transaction() as transaction:
            assert_type(transaction, AsyncTransaction)
        async with connection.cursor() as cursor, cursor.copy("copy t to stdout") as copy:
            assert_type(cursor, AsyncPgCursor[tuple[Any, ...]])
            assert_type(copy, AsyncCopy)
        assert_type(await connection.closed, bool)


async def use_own(item: AsyncItem[int]) -> str:
    async with AsyncClient.make("x") as client:
        base: AsyncBase = client
        assert_type(await base.ping(), bool)
        assert_type(await client.limit, int)
        assert_type(await client.count, int)
        assert_type(await AsyncClient.add(1), int)
        assert_type(await client.size, int)
        assert_type(await (await client.item()).get(), str)
        assert_type(await (await client.item()).again(), AsyncItem[str])
        assert_type(await client.maybe(), AsyncItem[bytes] | None)
        assert_type(await client.items(), list[AsyncItem[int]])
        assert_type((await client.record()).number, int)
        async for each in client.generate(5):
            assert_type(each, AsyncItem[int])
        async for text in client:
            assert_type(text, str)
        assert_type(await client.take(item, "x", 5), int | str)
        assert_type(await client.block(), AbstractAsyncContextManager[AsyncItem[int], bool | None])
        assert_type(await client.load(5), int)
        assert_type(await client.load("x"), AsyncItem[int])
        assert_type(await client.made(), AsyncItem[Any])
        # That the block is left by nothing but its end shows in that this returns.
        assert_type(await client.name, Any)
        return "left"


if __name__ == "__main__":
    asyncio.run(use_db())
"""

WRONG = """
from db import AsyncConnection


async def use(db: AsyncConnection) -> None:
    await db.missing()  # wrong
    await db.execute(5)  # wrong
    number: int = await db.in_transaction or "x"  # wrong
    async for _ in db:  # wrong
        pass
    print(number)
"""


def type_checker(name: str) -> str:
    """The program, which only the environment of the plain edition has."""
    if importlib.util.find_spec(name) is None:
        if _edition.EDITION == "compiled":
            pytest.skip(f"{name} is in the environment of the plain edition")
        database_servers.lacks(f"{name} is missing: it is in the extra `dev`")
    return str(Path(sys.executable).with_name(name))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The stubs, beside the modules that they are of, and the programs that use them."""
    for name in ("redis", "psycopg"):
        database_servers.package(name)
    folder = tmp_path_factory.mktemp("stubs")
    (folder / "own_client.py").write_text(OWN)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    for name, target in CLIENTS.items():
        command = [sys.executable, "-m", "weft", "asyncify", target, "-o", f"{name}.pyi"]
        subprocess.run(command, cwd=folder, check=True, timeout=60, env=environment)
        module, cls = target.split(":")
        (folder / f"{name}.py").write_text(
            f"import {module}\nfrom weft.bridge import asyncify\n\n"
            f"Async{cls} = asyncify({target.replace(':', '.')}, one_thread=True)\n"
        )
    with (folder / "db.py").open("a") as file:
        file.write("AsyncCursor = asyncify(sqlite3.Cursor, one_thread=True)\n")
    (folder / "uses.py").write_text(USES)
    (folder / "wrong.py").write_text(WRONG)
    return folder


@pytest.mark.slow_test(100)
def test_mypy_strict(folder):
    mypy = type_checker("mypy")
    stubs = [f"{name}.pyi" for name in CLIENTS]
    command = [mypy, "--strict", "--no-incremental", "--hide-error-context", *stubs, "uses.py", "wrong.py"]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=90)
    lines = [line for line in process.stdout.splitlines() if ": error:" in line and not line.startswith("own_client")]
    assert {line.partition(": error")[0] for line in lines} == wrong_lines(), process.stdout


@pytest.mark.slow_test(100)
def test_pyright_strict(folder):
    pyright = type_checker("pyright")
    files = [*(f"{name}.pyi" for name in CLIENTS), "uses.py", "wrong.py"]
    config = {"typeCheckingMode": "strict", "pythonVersion": ".".join(map(str, sys.version_info[:2])), "include": files}
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    command = [pyright, "--pythonpath", sys.executable, "--outputjson"]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=90)
    found = [
        f"{Path(each['file']).name}:{each['range']['start']['line'] + 1}"
        for each in json.loads(process.stdout)["generalDiagnostics"]
    ]
    assert set(found) == wrong_lines(), process.stdout


@pytest.mark.slow_test(100)
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_classes_that_are_generic_for_type_checkers_only(tmp_path, checker):
    """The stubs of the standard library give type parameters to classes that have none when they run."""
    program = type_checker(checker)
    targets = ["http.client:HTTPConnection", "concurrent.futures:ThreadPoolExecutor", "shelve:DbfilenameShelf"]
    for number, target in enumerate(targets):
        assert main(["asyncify", target, "-o", str(tmp_path / f"stub{number}.pyi")]) == 0
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    options = ["--strict", "--no-incremental", "."] if checker == "mypy" else ["--pythonpath", sys.executable]
    process = subprocess.run([program, *options], cwd=tmp_path, capture_output=True, text=True, timeout=90)
    assert process.returncode == 0, process.stdout
    text = (tmp_path / "stub1.pyi").read_text()
    assert "class AsyncFuture(AsyncHandle):" in text
    assert "def submit(self, fn: Callable[..., Any]" in text


def wrong_lines():
    return {f"wrong.py:{n}" for n, line in enumerate(WRONG.splitlines(), 1) if line.endswith("# wrong")}


def test_what_the_types_allow_runs(folder):
    process = subprocess.run(
        [sys.executable, "-W", "error", "uses.py"], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert (process.returncode, process.stderr) == (0, "")


def test_every_method_of_the_stub_is_there(folder):
    """And the other way round: what the class has, the stub tells of."""
    import redis

    from weft.bridge import asyncify

    for name, cls in (("cache", redis.Redis), ("cache", redis.client.Pipeline)):
        tree = ast.parse((folder / f"{name}.pyi").read_text())
        classes = {each.name: each for each in tree.body if isinstance(each, ast.ClassDef)}
        made = asyncify(cls)
        told, pending = set(), [made.__name__]
        while pending:
            found = classes[pending.pop()]
            told |= {each.name for each in found.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
            pending += [base.id for base in found.bases if isinstance(base, ast.Name) and base.id in classes]
        public = {each for each in dir(made) if not each.startswith("_")} - {"aclose"}
        assert public <= told, public - told


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_client.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("own_client", None)
    _sources.source_of.cache_clear()


def test_names_that_are_hidden_or_direct(own, capsys):
    arguments = ["own_client:Client", "--hide", "make", "--hide", "Item.again", "--direct", "size", "--name", "Mine"]
    assert main(["asyncify", *arguments]) == 0
    text = capsys.readouterr().out
    assert "class Mine(AsyncBase):" in text
    assert "def make" not in text and "def again" not in text
    assert "    def size(self) -> int: ..." in text
    assert "    def list(self) -> " in text.replace("async def", "def") and "builtins.list[str]" in text
    assert main(["asyncify", "own_client:Client", "--only", "item"]) == 0
    text = capsys.readouterr().out
    assert re.findall(r"def (\w+)", text.partition("class AsyncClient")[2])[:2] == ["__init__", "item"]


@pytest.mark.skipif(not since(3, 12), reason="type parameters came with 3.12")
def test_type_parameters(own, capsys):
    (own / "own_client.py").write_text(
        "from __future__ import annotations\nfrom collections.abc import Sequence\n"
        "class Box[T: Sequence[int], *Rest]:\n    def get(self) -> T: ...\n    def again(self) -> Box[T, *Rest]: ...\n"
        "class Client:\n    def box(self) -> Box[list[int], str]: ...\n"
    )
    assert main(["asyncify", "own_client:Client"]) == 0
    text = capsys.readouterr().out
    assert "class AsyncBox[T: Sequence[int], *Rest](AsyncHandle):\n    async def get(self) -> T: ..." in text
    assert "-> Call[AsyncBox[T, *Rest]]: ..." in text and "-> Call[AsyncBox[list[int], str]]: ..." in text


def test_a_class_that_nobody_wrote_types_for(own, capsys):
    """Made while the program runs: what `inspect` says of it."""
    (own / "own_client.py").write_text(
        "def work(self, one, *, other=5): ...\n"
        "Client = type('Client', (), {'work': work, 'make': classmethod(lambda cls: cls()), 'size': property(id)})\n"
    )
    assert main(["asyncify", "own_client:Client"]) == 0
    text = capsys.readouterr().out
    ast.parse(text)
    assert "def work(self, one: Any, *, other: Any = ...) -> Call[Any]: ..." in text
    assert "    @classmethod\n    def make(cls) -> Call[Any]: ..." in text
    assert "    def size(self) -> Awaitable[Any]: ..." in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["redis"], "names no class: MODULE:CLASS is needed"),
        (["missing_module:Client"], "'missing_module' can't be imported: No module named"),
        (["sqlite3:Missing"], "module 'sqlite3' has no 'Missing'"),
        (["sqlite3:connect"], "takes a class, not"),
        (["sqlite3:Connection", "--hide", "pnig"], "has no 'pnig'"),
        (["sqlite3:Connection", "--also", "sqlite3"], "names no class"),
        (["sqlite3:Connection", "-o", "missing/folder/x.pyi"], "can't write 'missing/folder/x.pyi': No such file"),
    ],
)
def test_bad_input_is_one_line(arguments, words, capsys):
    assert main(["asyncify", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("weft asyncify: ") and words in err
