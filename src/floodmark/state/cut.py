"""The cut of history: a new head, by compare-and-swap, puts older manifests out of reach.

The other fields of head stay as they are.

The caller must delete nothing before `cut` has returned True.
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
    """End history with `oldest`, and raise the floor. Return False if head has moved on: then the caller looks again.

    Raises OutcomeUnknown if the store does not reveal whether head was rewritten, and StateUnreadable, StorageError.
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
