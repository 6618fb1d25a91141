"""Taking manifests out of reach: head is told anew, by compare-and-swap, where history ends; all else of it stays.

Nothing may be deleted before `cut` has returned True.
"""

from __future__ import annotations

from msgspec.structs import replace

from floodmark.errors import ConditionFailed, OutcomeUnknown
from floodmark.layout import HEAD
from floodmark.state import inflight
from floodmark.state.documents import Documents
from floodmark.state.manifest import Head, encode
from floodmark.storage.base import IfMatch

MAX_TRIES = 5


def cut(
    documents: Documents, head: Head, etag: str, oldest: str | None, floor: str | None, sleep: inflight.Sleep
) -> bool:
    """Let history end with `oldest`, and raise the floor. False where head has moved on: then look again.

    Raises OutcomeUnknown when the store does not let us learn whether head says so; StateUnreadable, StorageError.
    """
    wanted = replace(head, oldest=oldest, floor=floor)
    if wanted == head:
        return True
    for tries in range(MAX_TRIES):
        try:
            documents.put(HEAD, encode(wanted), IfMatch(etag))
            return True
        except (ConditionFailed, OutcomeUnknown):
            now = documents.fetch(Head, HEAD)
        if now is None or now[1] != etag:
            return now is not None and now[0] == wanted
        inflight.pause(sleep, tries)
    raise OutcomeUnknown(
        "can't tell whether history was cut",
        on=documents.at(HEAD),
        why="head stays as it was, and the answers do not tell why",
        hint="Nothing was deleted. Running prune again is safe.",
    )
