"""The types of the compiled decoder, for callers and mypy."""

from collections.abc import Sequence

class Rows:
    """Decoded rows, to be taken once: `pyarrow.record_batch(rows, schema)`."""

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]: ...

class Decoder:
    """A decoder of one table's lines into Arrow columns. Use one in each thread.

    `names` are the columns' names as JSON strings. `types` are their kind (of `reader.types`), precision and scale. If
    `infinite` is true, infinite dates and timestamps become DuckDB's numbers for them.
    """

    def __init__(
        self, names: Sequence[bytes], types: Sequence[tuple[str, int, int]], infinite: bool = False
    ) -> None: ...
    @property
    def rows(self) -> int:
        """Return the number of rows that were taken since the last `finish`."""

    def take(self, lines: bytes) -> bool:
        """Append a block of whole lines. Return false, and append nothing, if this decoder can't read one of them."""

    def finish(self) -> Rows:
        """Return the rows so far, at least one, and start again. Raises ValueError if there is no row."""

VERSION: str  # of the Floodmark that it was built from
