"""An event loop in a thread of its own, for a library that is asynchronous inside a program that is not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Any, TypeVar

from floodmark.stop import Stop

Result = TypeVar("Result")
_SECONDS_BETWEEN_LOOKS = 0.1


class LoopThread:
    """A thread that runs coroutines. `close` cancels those that are left, and ends the thread."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Start a coroutine. Cancel what is returned to cancel it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, work: Coroutine[Any, Any, Result], stop: Stop) -> Result:
        """Run a coroutine, and return its result. Raises Stopped at the request to end, and what it raises."""
        future = self.start(work)
        while True:
            try:
                return future.result(_SECONDS_BETWEEN_LOOKS)
            except NotYet:
                if future.done():
                    raise
                if stop.is_set():
                    future.cancel()
                    stop.require_not_asked()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._end_all())
            self._loop.close()

    async def _end_all(self) -> None:
        left = asyncio.all_tasks(self._loop) - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()
