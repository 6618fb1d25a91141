"""Optional libraries, imported at their first use. If one is missing, the error says how to install it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from floodmark.errors import ConfigError
from floodmark.wording import install_hint


def pyarrow() -> Any:
    """Return the pyarrow package with its compute and Parquet modules. Raises ConfigError."""
    try:
        import pyarrow as found  # noqa: PLC0415 - optional extra
        import pyarrow.compute  # noqa: PLC0415 - optional extra
        import pyarrow.parquet  # noqa: PLC0415 - optional extra
    except ModuleNotFoundError:
        raise _missing("Arrow and Parquet", "pyarrow", "arrow") from None
    return found


def duckdb() -> Any:
    """Return the duckdb package. Raises ConfigError."""
    try:
        import duckdb as found  # noqa: PLC0415 - optional extra
    except ModuleNotFoundError:
        raise _missing("DuckDB", "duckdb", "duckdb") from None
    return found


def require_pyiceberg() -> None:
    """Check that pyiceberg and pyarrow are installed. Raises ConfigError."""
    if find_spec("pyiceberg") is None:
        raise _missing("Iceberg", "pyiceberg", "iceberg")
    pyarrow()


def _missing(what: str, package: str, extra: str) -> ConfigError:
    return ConfigError(
        f"can't use {what}",
        why=f"the package {package} is not installed",
        hint=install_hint(extra),
    )
