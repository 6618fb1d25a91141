"""The libraries that come with an extra, imported when they are first needed; what is missing is said with its cure."""

from __future__ import annotations

from typing import Any

from floodmark.errors import ConfigError
from floodmark.wording import install_hint


def pyarrow() -> Any:
    """The pyarrow package with its parts for computing and Parquet. Raises ConfigError."""
    try:
        import pyarrow as found  # noqa: PLC0415 - optional extra
        import pyarrow.compute  # noqa: PLC0415 - optional extra
        import pyarrow.parquet  # noqa: PLC0415 - optional extra
    except ModuleNotFoundError:
        raise _missing("Arrow and Parquet", "pyarrow", "arrow") from None
    return found


def duckdb() -> Any:
    """The duckdb package. Raises ConfigError."""
    try:
        import duckdb as found  # noqa: PLC0415 - optional extra
    except ModuleNotFoundError:
        raise _missing("DuckDB", "duckdb", "duckdb") from None
    return found


def _missing(what: str, package: str, extra: str) -> ConfigError:
    return ConfigError(
        f"{what} can't be used here",
        why=f"the package {package} is not installed",
        hint=install_hint(extra),
    )
