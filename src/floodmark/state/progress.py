"""The progress of runs in flight: each writes its own document, and the next run reads all that are listed.

A progress saves work and proves nothing: its chunks are proven against the new snapshot like any others. So a progress
that is missing or can't be read is no error. It does not matter if its run is dead or alive (see `pipeline.resume`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from floodmark.errors import StateUnreadable, StorageError
from floodmark.layout import progress_key
from floodmark.state.documents import Documents
from floodmark.state.manifest import Progress, Working, encode


def read(documents: Documents, run: Working, tell: Callable[[str], None]) -> Progress | None:
    """Return what a run left, or None if it left nothing usable. Raises StorageError.

    `tell` receives a message if the data there is not a progress. Nothing is written over it.
    """
    try:
        found = documents.fetch(Progress, run.progress)
    except StateUnreadable as error:
        tell(f"what run {run.run_id} had finished is done anew: {error.sentence}")
        return None
    return found[0] if found is not None and found[0].run_id == run.run_id else None


def write(documents: Documents, progress: Progress) -> None:
    """Replace this run's earlier progress: its key is its own. Raises StorageError."""
    documents.overwrite(progress_key(progress.run_id), encode(progress))


def remove(documents: Documents, run_id: str) -> None:
    """Remove a progress that is no longer needed. If it can't be deleted, prune finds it later."""
    with suppress(StorageError):
        documents.delete(progress_key(run_id))
