"""The committed history: head, the manifest it names, and the manifests before that.

A manifest that head never names is an orphan that no reader ever sees.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from msgspec import Struct

from floodmark.errors import ObjectMissing
from floodmark.layout import HEAD
from floodmark.state.documents import Documents
from floodmark.state.manifest import Head, Manifest, decode, unreadable

# A prune can delete what head named between two reads. More often in a row than this is no prune.
MAX_TRIES = 5


class Current(Struct, frozen=True):
    """The current commit: head, its etag for the next swap, and the manifest it names."""

    head: Head
    etag: str
    manifest: Manifest


class History:
    """The commits in one state location, to read."""

    def __init__(self, documents: Documents, url: str) -> None:
        self.documents, self.url = documents, url

    def current(self) -> Current | None:
        """Return the current commit, or None before the first commit. Raises StateUnreadable, StorageError."""
        missing = None
        for _ in range(MAX_TRIES):
            found = self.documents.fetch(Head, HEAD)
            if found is None:
                return None
            head, etag = found
            data = self.documents.get(head.manifest)
            if data is not None:
                return Current(head, etag, self._verified(head, data))
            # Between the two reads, head might have moved on and prune might have deleted the manifest that head named.
            if etag == missing:
                break
            missing = etag
        raise unreadable(self.documents.at(head.manifest), "head names it, and it is not there")

    def head(self) -> Head | None:
        """Return head without the manifest it names. Raises StateUnreadable, StorageError."""
        found = self.documents.fetch(Head, HEAD)
        return found[0] if found is not None else None

    def manifest(self, run: str) -> Manifest:
        """Return a manifest by its key, or a committed one by its run_id.

        Raises ObjectMissing, StateUnreadable, StorageError. The search for a run_id starts at head. A key made from the
        run_id might be the key of a manifest that was never committed, or that was committed only after a rebase, under
        another key.
        """
        if not run.startswith("manifests/"):
            return self._committed(run)
        data = self.documents.get(run)
        if data is None:
            raise ObjectMissing("can't read a manifest", on=self.documents.at(run), why="it does not exist")
        return decode(Manifest, data, self.documents.at(run))

    def history(self, limit: int | None = None) -> Iterator[Manifest]:
        """Yield up to `limit` committed manifests, newest first. History ends at a manifest whose parent was pruned."""
        current = self.current()
        if current is not None:
            with suppress(ObjectMissing):
                for _, manifest in islice(self.reach(current), limit):
                    yield manifest
                    del manifest  # before the next one is read: a large one takes much memory

    def reach(self, current: Current) -> Iterator[tuple[str, Manifest]]:
        """Yield every manifest in reach of `current`, newest first, with its key.

        Raises ObjectMissing if one does not exist: prune has deleted it meanwhile, or it is lost. Also raises
        StateUnreadable, StorageError.
        """
        key, parent = current.head.manifest, current.manifest.parent
        yield key, current.manifest
        while parent is not None and key != current.head.oldest:
            key = parent
            manifest = self.manifest(key)
            parent = manifest.parent
            yield key, manifest
            del manifest  # before the next one is read: a large one takes much memory

    def _committed(self, run_id: str) -> Manifest:
        for manifest in self.history():
            if manifest.run_id == run_id:
                return manifest
        raise ObjectMissing(
            "can't find a run", on=run_id, why=f"no manifest of it can be reached from {self.url}/{HEAD}"
        )

    def _verified(self, head: Head, data: bytes) -> Manifest:
        where = self.documents.at(head.manifest)
        if hashlib.sha256(data).hexdigest() != head.manifest_sha256:
            raise unreadable(where, "its SHA-256 is not the one that head gives")
        return decode(Manifest, data, where)
