"""A change-aware extractor that lands a database in S3 every night: it moves what changed and proves the rest.

The public Python API (docs/api.md). Each name is imported at its first use, so `import floodmark` loads nothing else.

    import floodmark

    result = floodmark.run(floodmark.load_settings("floodmark.yaml"))
    snapshot = floodmark.open("s3://my-lake/cases").latest()
"""

from __future__ import annotations

from importlib import import_module

from floodmark.version import __version__

TYPE_CHECKING = False  # typing.TYPE_CHECKING would cost more than all else here; type checkers know this name
if TYPE_CHECKING:
    from floodmark.config import Settings, load_settings
    from floodmark.errors import FloodmarkError
    from floodmark.pipeline.job import PlannedTable, RunPlan, plan, run
    from floodmark.pipeline.publish import RunResult
    from floodmark.reader.changes import Changed, Changes
    from floodmark.reader.cursor import StoredCursor
    from floodmark.reader.reader import Reader, Snapshot, Table, open

__all__ = [
    "Changed",
    "Changes",
    "FloodmarkError",
    "PlannedTable",
    "Reader",
    "RunPlan",
    "RunResult",
    "Settings",
    "Snapshot",
    "StoredCursor",
    "Table",
    "__version__",
    "load_settings",
    "open",
    "plan",
    "run",
]

# The module of each public name. No public name is also a subpackage, so an import can't hide one.
_MODULES = {
    "floodmark.config": ("Settings", "load_settings"),
    "floodmark.errors": ("FloodmarkError",),
    "floodmark.pipeline.job": ("PlannedTable", "RunPlan", "plan", "run"),
    "floodmark.pipeline.publish": ("RunResult",),
    "floodmark.reader.changes": ("Changed", "Changes"),
    "floodmark.reader.cursor": ("StoredCursor",),
    "floodmark.reader.reader": ("Reader", "Snapshot", "Table", "open"),
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use (PEP 562)."""
    for module, names in _MODULES.items():
        if name in names:
            found = getattr(import_module(module), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module 'floodmark' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
