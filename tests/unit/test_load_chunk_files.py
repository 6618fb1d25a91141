"""The error that ends a table's files, in whatever order the tasks are noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from floodmark.errors import StorageUnavailable
from floodmark.load.chunk_files import written_files
from floodmark.stop import Stop


class LastFirst:
    """An engine that yields the tasks in the opposite order."""

    def run_tasks(
        self, work: Callable[[Any], Any], tasks: Iterable[Any], away: object = None
    ) -> Iterator[tuple[Any, Any]]:
        done = []
        for task in tasks:
            try:
                done.append((task, work(task)))
            except BaseException as error:
                done.append((task, error))
        yield from reversed(done)


def test_the_tasks_that_an_error_ended_do_not_hide_it() -> None:
    def write(file: object) -> object:
        raise StorageUnavailable("get an object", why="a test says so")

    staged: Any = SimpleNamespace(watch=SimpleNamespace(engine=LastFirst(), stop=Stop()))
    files: list[Any] = [SimpleNamespace(number=number) for number in range(3)]
    with pytest.raises(StorageUnavailable, match="a test says so"):
        list(written_files(staged, files, write, None))
