"""Translation of DuckDB's errors about a file. DuckDB's own text is searched but never shown: it can hold a value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from floodmark.errors import ConfigError, Conflict, FloodmarkError, StorageError
from floodmark.model import TableName
from floodmark.reader import extras

# The same problem comes as many kinds of exception, depending on the operation. Only its words identify it.
_DISK_FULL = ("no space left", "quota exceeded", "max_temp_directory_size")
_FILE_TOO_LARGE = ("file too large",)
_MEMORY = ("out of memory", "failed to pin block", "failed to allocate", "could not allocate", "memory_limit")
_BROKEN = ("FatalException", "InternalException")


class DuckDBErrors:
    """The subject of the errors: a file, and how much memory DuckDB may use for it."""

    def __init__(self, url: str, memory: str, elsewhere: str = "load into a file elsewhere") -> None:
        self._url, self._memory, self._elsewhere = url, memory, elsewhere

    @contextmanager
    def translated(self, what: str) -> Iterator[None]:
        """Raise the StorageError that matches a DuckDB error."""
        try:
            yield
        except extras.duckdb().Error as error:
            why, hint = self._reason(error)
            raise StorageError(f"can't {what}", on=self._url, why=why, hint=hint) from None

    def not_opened(self, error: Exception) -> FloodmarkError:
        """Return the error for a file that DuckDB did not open."""
        duckdb = extras.duckdb()
        if _contains_any(error, _DISK_FULL):
            why, hint = self._reason(error)
            return StorageError("can't open the DuckDB file", on=self._url, why=why, hint=hint)
        if "lock" in str(error) or isinstance(error, duckdb.ConnectionException):
            return Conflict(
                "can't open the DuckDB file",
                on=self._url,
                why="another process has it open, and DuckDB allows only one process if one of them writes",
                hint="Close it there (another load, a notebook) and load again.",
            )
        return ConfigError(
            "can't open the DuckDB file",
            on=self._url,
            why=f"DuckDB {duckdb.__version__} gave {type(error).__name__}",
            hint="Check that its folder exists and can be written, and that no newer DuckDB wrote it.",
        )

    def _reason(self, error: Exception) -> tuple[str, str | None]:
        """Return the cause and the hint."""
        if _contains_any(error, _DISK_FULL):
            hint = f"Free some space and load again, or {self._elsewhere}. The tables loaded before are intact."
            return "the disk is full (DuckDB keeps its temporary files next to the file)", hint
        if _contains_any(error, _FILE_TOO_LARGE):
            return "the file can't grow", "Raise the limit on file sizes: ulimit -f."
        if _contains_any(error, _MEMORY):
            hint = "Give it more, such as --memory 1GiB: a table of very long values needs it."
            return f"DuckDB needs more memory than the {self._memory} that it was given", hint
        if type(error).__name__ in _BROKEN:
            return "DuckDB had an internal error", "Load again. The tables loaded before are intact."
        return f"DuckDB gave {type(error).__name__}", None


def not_replaceable(url: str, table: TableName, dependents: Sequence[str]) -> ConfigError:
    """Return the error for a table that can't be dropped or replaced because the user's own objects depend on it."""
    names = ", ".join(dependents) or "something"
    return ConfigError(
        "can't replace the table",
        on=f"{url}: {table.label}",
        why=f"{names} in that file depends on it, by a foreign key or as a view",
        hint="Drop what depends on it and load again. Then create it again, without the foreign key "
        "or without enable_view_dependencies.",
    )


def _contains_any(error: Exception, words: tuple[str, ...]) -> bool:
    text = str(error).lower()
    return any(one in text for one in words)
