"""The seam between the demo and its services, the database's name, and the words of a change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

from msgspec import Struct

from floodmark.config import TableRule

DATABASE = "custody_cases"


class DayChange(Struct, frozen=True):
    """A change to the database during a day, in words and in SQL."""

    words: str
    statement: str


class Service(Protocol):
    """An invented service on a private server, which runs until the end of the `with` block.

    Every demo has the same rows. `changes` are those of the third day. `quiet_day` says why the second day's run reads
    no row.
    """

    @property
    def product(self) -> str: ...

    @property
    def rules(self) -> Mapping[str, TableRule]: ...

    @property
    def changes(self) -> Sequence[DayChange]: ...

    @property
    def quiet_day(self) -> str: ...

    @property
    def url(self) -> str: ...

    def fill(self, people: int) -> None:
        """Create the database, its tables and their rows. `people` (at least 60) sets the scale."""
        ...

    def live_a_day(self) -> None:
        """Make the changes, and commit them."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
