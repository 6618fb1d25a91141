"""The deletion of what is out of reach: many keys at once, with its progress, and the truth if it is stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from floodmark.engine.local import LocalThreads
from floodmark.errors import StorageDenied
from floodmark.events import Observer, StepAdvanced, StepStarted
from floodmark.stop import Stop
from floodmark.wording import plural

DELETIONS = 16


class Deletion:
    """A deletion: planned with `begin`, after the old snapshots are out of reach, and done with `delete_all`."""

    def __init__(self, observer: Observer, stop: Stop) -> None:
        self.observer, self.stop = observer, stop
        self._lock = threading.Lock()
        self._total: int | None = None
        self._deleted = 0

    def begin(self, total: int) -> None:
        """Tell the observer how many keys are to be deleted."""
        self._total = total
        self.observer(StepStarted("deleting", total=total, unit="keys"))

    def delete_all(self, delete: Callable[[str], None], keys: Iterable[str], where: str) -> None:
        """Delete these keys. Raises Stopped, StorageError."""

        def one(key: str) -> None:
            self.stop.require_not_asked()
            delete(key)
            with self._lock:
                self._deleted += 1
            self.observer(StepAdvanced())

        for _, error in LocalThreads(DELETIONS).run_tasks(one, keys):
            if isinstance(error, StorageDenied):
                raise StorageDenied(
                    "can't delete old objects",
                    on=error.on or where,
                    why=error.why,
                    hint="Grant s3:DeleteObject below this prefix (write access, if it is a folder), and prune again. "
                    "Old snapshots are already unreachable, and the leftover objects do no harm.",
                )
            if isinstance(error, BaseException):
                raise error

    def left(self) -> str:
        """Return what a prune leaves that is stopped."""
        if self._total is None:
            return "Nothing was deleted."
        verb = "is" if self._deleted == 1 else "are"
        share = f"{self._deleted:,} of {plural(self._total, 'key')} {verb} deleted"
        return f"The old snapshots are out of reach. {share}; prune again to delete the rest."
