"""Keep-alive connections in a rolling restart: every request counted, and re-sent only where HTTP says that it may be."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from worker_service import KeptAlive, Service, program, serving

KINDS = ("plain", "aiohttp", "uvicorn")
CLIENTS = 4


class Client:
    """Requests without end over a connection that is kept as long as it may be; GET and POST in turn."""

    def __init__(self, service: Service, number: int) -> None:
        self._service = service
        self._number = number
        self.answered: list[str] = []
        # POSTs that the server never answered: no client may send such a request again by itself.
        self.cut: list[str] = []
        # All that should not happen: an answer that is torn, a new connection that fails.
        self.failed: list[str] = []

    def run(self, is_over: threading.Event) -> None:
        connection = KeptAlive(self._service.address)
        for count in range(10**9):
            if is_over.is_set():
                break
            method = ("GET", "POST")[count % 2]
            path = f"/{method}-{self._number}-{count}"
            is_reused = connection.sock is not None
            try:
                try:
                    connection.ask(method, path)
                except ConnectionError:
                    # Closed before the answer began; on a connection that was idle until then.
                    connection.close()
                    if not is_reused:
                        raise
                    if method == "POST":
                        self.cut.append(path)
                        continue
                    connection.ask(method, path)
            except Exception as error:
                self.failed.append(f"{path}: {error!r}")
                connection.close()
            else:
                self.answered.append(path)
        connection.close()


def under_load(service: Service, restart: Callable[[], None]) -> list[Client]:
    """Let clients ask while `restart` runs."""
    clients = [Client(service, number) for number in range(CLIENTS)]
    is_over = threading.Event()
    threads = [threading.Thread(target=client.run, args=(is_over,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        restart()
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    return clients


def restart(service: Service) -> None:
    service.send(signal.SIGHUP)
    service.until("the rolling restart is done")


@pytest.mark.slow_test(100)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_answered_was_not_begun(tmp_path: Path, kind: str) -> None:
    """A framework closes idle connections when it ends, and a client may have sent its next request that moment. It is
    lost only if the client may not send it again, and then the server has not begun with it: it says so by a reset."""
    if kind != "plain":
        pytest.importorskip(kind)
    with serving(tmp_path, program(kind), "--drain", "1" if kind == "plain" else "30") as service:
        before = service.pids()
        clients = under_load(service, lambda: restart(service))
        assert not service.pids() & before
        assert not [each for client in clients for each in client.failed]
        answered = [path for client in clients for path in client.answered]
        cut = [path for client in clients for path in client.cut]
        applied = service.applied()
        posts = [path for path in answered if "POST" in path]
        assert sorted(posts) == sorted(path for path in applied if "POST" in path)
        assert not set(cut) & set(applied)
        assert set(answered) <= set(applied)
        assert len(answered) > 100
        # One for each connection that a worker closes, at most.
        assert len(cut) <= 2 * CLIENTS
        assert service.end() == 0, service.said


@pytest.mark.slow_test(100)
@pytest.mark.parametrize("kind", KINDS)
def test_a_program_that_sends_its_clients_away_loses_nothing(tmp_path: Path, kind: str) -> None:
    """It answers with `Connection: close` while `is_draining`; then nobody sends on a connection that gets closed."""
    if kind != "plain":
        pytest.importorskip(kind)
    with serving(tmp_path, program(kind, close="weft.workers.is_draining()")) as service:
        before = service.pids()
        clients = under_load(service, lambda: (restart(service), restart(service)))
        assert not service.pids() & before
        assert not [each for client in clients for each in [*client.failed, *client.cut]]
        answered = [path for client in clients for path in client.answered]
        assert sorted(answered) == sorted(service.applied())
        assert len(answered) > 100
        assert service.end() == 0, service.said


@pytest.mark.slow_test(100)
@pytest.mark.parametrize("kind", KINDS)
def test_an_aiohttp_client_notices_nothing(tmp_path: Path, kind: str) -> None:
    """It keeps its connections in a pool, and sends a GET again that came too late."""
    aiohttp = pytest.importorskip("aiohttp")
    if kind != "plain":
        pytest.importorskip(kind)

    async def load(service: Service, restarted: asyncio.Future[None]) -> int:
        count = 0

        async def one(session, number: int) -> None:
            nonlocal count
            while not restarted.done():
                async with session.get(f"http://127.0.0.1:{service.port}/{number}") as answer:
                    assert answer.status == 200
                    await answer.read()
                count += 1

        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(one(session, number))
        return count

    async def main(service: Service) -> int:
        restarted = asyncio.get_running_loop().run_in_executor(None, restart, service)
        try:
            return await load(service, restarted)
        finally:
            await restarted

    close = "weft.workers.is_draining()" if kind == "plain" else "False"
    with serving(tmp_path, program(kind, close=close)) as service:
        before = service.pids()
        assert asyncio.run(main(service)) > 100
        assert not service.pids() & before
        assert service.end() == 0, service.said
