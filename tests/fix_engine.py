"""An engine that sends work away as a cluster does, but only to threads of this process: pickled in both directions."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from floodmark.engine.base import Away, WorkerWatch
from floodmark.engine.local import LocalThreads
from floodmark.events import Event, ignore_event
from floodmark.stop import Stop


class PickledThreads:
    """An engine with `number` threads. `sent` are the pickled messages, and `returned` the pickled results."""

    def __init__(self, number: int = 2, observer: Callable[[Event], Any] = ignore_event) -> None:
        self._threads, self._observer = LocalThreads(number), observer
        self.sent: list[bytes] = []
        self.returned: list[bytes] = []

    def run_tasks(
        self, work: Callable[[Any], Any], tasks: Iterable[Any], away: Away[Any] | None = None
    ) -> Iterator[tuple[Any, Any]]:
        if away is None:
            yield from self._threads.run_tasks(work, tasks)
            return

        def carried(task: Any) -> Any:
            message = pickle.dumps((away.function, away.shared, away.message(task)))
            self.sent.append(message)
            function, shared, one = pickle.loads(message)
            stop = Stop()
            if away.stopping():
                stop.ask(15)
            try:
                result = pickle.dumps(function(shared, one, WorkerWatch(self._observer, stop)))
            except BaseException as error:
                raise pickle.loads(pickle.dumps(error)) from None
            self.returned.append(result)
            return pickle.loads(result)

        yield from self._threads.run_tasks(carried, tasks)
