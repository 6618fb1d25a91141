"""SQLite as a source. The parts: snapshot (the source), tables (the content of the file), lines (rows as JSON)."""

from floodmark.source.sqlite.snapshot import SQLiteSource

__all__ = ["SQLiteSource"]
