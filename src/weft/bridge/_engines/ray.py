"""Calls as tasks of Ray, on this machine or on a cluster's.

Rules for whoever edits this file:

- `ray.init` and `shutdown` block for seconds, so they run in a thread: always the same, which lives as long as Ray does.
  The kernel kills Ray's processes when the thread that started them ends, and Ray ends this one a minute later.
- To submit does not block once the function is known, so that is done in the loop's thread.
- A cancelled call is cancelled in Ray too: unbegun it never begins, and one that runs gets KeyboardInterrupt in its
  worker, between two lines of Python. Ray does not tell which it was, so the task waits for Ray's answer (or
  abandons, as was chosen).
"""

from __future__ import annotations

import asyncio
from typing import Any

from weft.bridge._engines.futures import Call, FuturesEngine
from weft.bridge._engines.remote import pack
from weft.bridge._engines.spi import cores, need
from weft.bridge.errors import NotPicklable, SchedulerLost, WorkerDied
from weft.bridge.threads import OnCancel, OneThread

__all__ = ["RayEngine"]


class _RayCall(Call):
    def __init__(self, ray: Any, function: Any, reference: Any) -> None:
        super().__init__(function, reference.future())
        self._ray = ray
        self._reference = reference

    def withdraw(self) -> bool:
        return False

    def ask(self) -> None:
        if not self.is_over:
            self._ray.cancel(self._reference, force=False)

    def outcome(self) -> Any:
        errors = self._ray.exceptions
        try:
            return super().outcome()
        except errors.TaskCancelledError as error:
            raise asyncio.CancelledError from error
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError) as error:
            raise WorkerDied(f"{self.function!r} was given up: {error}") from error
        except errors.RaySystemError as error:
            raise SchedulerLost(f"{self.function!r} was lost with the connection to Ray ({error})") from error
        except errors.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, TypeError) and ("pickle" in str(cause) or "serialize" in str(cause)):
                raise NotPicklable(
                    f"the result of {self.function!r} can't be sent back: {cause}; return what it is made of"
                ) from error
            if isinstance(cause, Exception):
                # What the function raised, and not the class that Ray derives from it.
                raise cause from error
            raise


class RayEngine(FuturesEngine):
    """Ray as this process has it already, or started here and shut down at the end."""

    def __init__(self, workers: int | None, on_cancel: OnCancel, address: str | None, options: dict[str, Any]) -> None:
        super().__init__("ray", cores() if workers is None else workers, on_cancel, 1 << 30)
        self._address = address
        self._options = options
        # Where Ray was started, if it was started here.
        self._thread: OneThread | None = None
        self._given = workers
        self._ray: Any = None

    async def start(self) -> None:
        ray = self._ray = need("ray", "ray")
        if not ray.is_initialized():
            settings: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "configure_logging": False}
            if self._address is None:
                settings["num_cpus"] = self.workers
            else:
                settings["address"] = self._address
            thread = OneThread("weft-ray")
            try:
                await thread.run(ray.init, **(settings | self._options))
            except ConnectionError as error:
                await thread.aclose()
                raise SchedulerLost(f"no Ray answers at {self._address}: {error}") from error
            except BaseException:
                # Cancelled, it has come up all the same.
                await thread.run(ray.shutdown)
                await thread.aclose()
                raise
            self._thread = thread
        if self._given is None:
            self.workers = int(ray.cluster_resources().get("CPU", self.workers))

    def _pack(
        self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        # Ray's own message names no argument, so it is looked for only when there is one.
        try:
            return function, (self._ray.remote(_call).remote(function, args, kwargs),), {}
        except TypeError:
            pack(function, args, kwargs)
            raise

    def _send(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        return _RayCall(self._ray, function, args[0])

    async def _shut_down(self) -> None:
        if self._thread is not None:
            try:
                await self._thread.run(self._ray.shutdown)
            finally:
                await self._thread.aclose()


def _call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return function(*args, **kwargs)
