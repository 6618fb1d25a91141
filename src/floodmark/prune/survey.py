"""Survey of the store: manifests in and out of reach, progress, runs in flight, objects.

Only this module lists a store. A listing never serves as the state. It only finds candidates for deletion.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import msgspec

from floodmark.engine.local import LocalThreads
from floodmark.errors import ObjectMissing, StateUnreadable, StorageDenied
from floodmark.events import Observer, StepAdvanced, StepStarted
from floodmark.layout import TIMESTAMP, table_prefix, timestamp_of
from floodmark.prune.retention import EraseBefore, ManifestLink, ProgressFacts, Rule, StoreSurvey
from floodmark.state import inflight
from floodmark.state.documents import Documents
from floodmark.state.ledger import Current, Ledger
from floodmark.state.manifest import Manifest, decode, unreadable
from floodmark.stop import Stop
from floodmark.storage.base import Storage

LISTINGS = 8
_PAGE = 1000  # the observer hears of this many keys at once
Found = TypeVar("Found")
_RUN_ID = re.compile(r"(\d{8})T(\d{6})Z")


def take_survey(
    ledger: Ledger,
    destination: Storage | None,
    current: Current,
    rule: Rule,
    now: datetime,
    observer: Observer,
    stop: Stop,
) -> StoreSurvey:
    """Survey the store. `destination` is None if objects do not stay.

    Raises StateUnreadable if history is damaged, StorageDenied, StorageError, Stopped. An erasure continues with
    damaged history: it treats the lost part as gone.
    """
    observer(StepStarted("reading manifests", unit="manifests"))
    documents, pool = ledger.documents, dict[str, str]()
    completed = _list_keys(documents, "complete/")  # first, so that the manifest of each record is found below
    alive, dead = inflight.alive_and_dead(documents, now)
    each = partial(_counted, observer, stop)
    reach, lost = _manifests_in_reach(each(ledger.reach(current)), ledger, rule, pool)
    strays, bad = _stray_manifests(documents, each(_keys_out_of_reach(documents, reach)), pool)
    progress, worse = _progress_facts(documents, each(_list_keys(documents, "progress/")), pool)
    names = set(pool)
    observer(StepStarted("listing objects", unit="keys"))
    return StoreSurvey(
        reach=reach,
        lost=lost,
        strays=strays,
        progress=progress,
        unreadable=(*bad, *worse),
        alive={run.run_id: min(run.timestamp, _start_of_run(run.run_id) or run.timestamp) for run in alive},
        dead={run.run_id: run.timestamp for run in dead},
        oldest=current.head.oldest,
        floor=current.head.floor,
        objects=tuple(_objects(destination, names, rule, observer, stop)) if destination is not None else (),
        completions={key: key.removeprefix("complete/").removesuffix(".json") for key in completed},
    )


def _counted(observer: Observer, stop: Stop, found: Iterable[Found]) -> Iterator[Found]:
    """Yield what was found, and tell the observer of each. Raises Stopped."""
    for one in found:
        stop.require_not_asked()
        observer(StepAdvanced())
        yield one
        del one  # a manifest takes much memory


def _keys_out_of_reach(documents: Documents, reach: Iterable[ManifestLink]) -> Iterator[str]:
    keys = {link.key for link in reach}
    return (key for key in _list_keys(documents, "manifests/") if key not in keys)


def _manifests_in_reach(
    reach: Iterable[tuple[str, Manifest]], ledger: Ledger, rule: Rule, pool: dict[str, str]
) -> tuple[tuple[ManifestLink, ...], str | None]:
    links: list[ManifestLink] = []
    try:
        for key, manifest in reach:
            links.append(_manifest_link(key, manifest, pool, ledger.documents.at(key)))
            del manifest  # before the next one is read: a large one takes much memory
    except (ObjectMissing, StateUnreadable) as error:
        if not links or not isinstance(rule, EraseBefore):
            raise _history_damaged(error, links) from None
        return tuple(links), error.sentence
    return tuple(links), None


def _history_damaged(error: ObjectMissing | StateUnreadable, links: list[ManifestLink]) -> StateUnreadable:
    return StateUnreadable(
        "can't read all of history",
        on=error.on,
        why=f"{error.why}; {links[-1].run_id} names it as its parent" if links else error.why,
        hint="Nothing was deleted, since this document names the objects of older snapshots. Restore it from the "
        "bucket's versions, or give them up: `floodmark prune --erase-before DATE` ends history there.",
    )


def _manifest_link(key: str, manifest: Manifest, pool: dict[str, str], where: str) -> ManifestLink:
    try:
        finished = datetime.fromisoformat(manifest.finished_at).astimezone(UTC)
    except ValueError:
        raise unreadable(where, "its finished_at is not a valid timestamp") from None
    names = (one.key for entry in manifest.tables for one in entry.objects)
    return ManifestLink(key, manifest.run_id, manifest.parent, manifest.timestamp, finished, _pooled_names(names, pool))


def _pooled_names(names: Iterable[str], pool: dict[str, str]) -> frozenset[str]:
    """Return the names, each stored once in memory no matter how many manifests hold it."""
    return frozenset(pool.setdefault(name, name) for name in names)


def _stray_manifests(
    documents: Documents, keys: Iterable[str], pool: dict[str, str]
) -> tuple[tuple[ManifestLink, ...], list[str]]:
    links, bad = [], []
    for key in keys:
        data = documents.get(key)
        try:
            if data is not None:
                links.append(_manifest_link(key, decode(Manifest, data, documents.at(key)), pool, documents.at(key)))
        except StateUnreadable:
            bad.append(key)
    return tuple(links), bad


def _progress_facts(
    documents: Documents, keys: Iterable[str], pool: dict[str, str]
) -> tuple[tuple[ProgressFacts, ...], list[str]]:
    found, bad = [], []
    for key in keys:
        data = documents.get(key)
        try:
            texts = [] if data is None else list(_texts(msgspec.json.decode(data)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            bad.append(key)
            continue
        names = _pooled_names((text for text in texts if timestamp_of(text) is not None), pool)
        stamps = {stamp for text in names if (stamp := timestamp_of(text)) is not None}
        stamps |= {text for text in texts if TIMESTAMP.fullmatch(text)}
        if data is not None:
            run_id = key.removeprefix("progress/").partition(".")[0]
            stamps |= {stamp for stamp in (_start_of_run(run_id),) if stamp is not None}
            found.append(ProgressFacts(key, run_id, names, frozenset(stamps)))
    return tuple(found), bad


def _texts(value: object) -> Iterator[str]:
    """Yield every string in a document of any form. Prune only needs to know what progress names."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _objects(destination: Storage, names: Iterable[str], rule: Rule, observer: Observer, stop: Stop) -> Iterator[str]:
    """Yield the objects of the tables that this state's documents name, or for an erasure, of their databases."""
    whole = isinstance(rule, EraseBefore)
    prefixes = sorted({prefix for key in names if (prefix := table_prefix(key, database_only=whole)) is not None})

    def listed(prefix: str) -> list[str]:
        found: list[str] = []
        for key in destination.list(prefix):
            found.append(key)
            if len(found) % _PAGE == 0:
                stop.require_not_asked()
                observer(StepAdvanced(_PAGE))
        observer(StepAdvanced(len(found) % _PAGE))
        return found

    for _, keys in LocalThreads(LISTINGS).run_tasks(listed, prefixes):
        if isinstance(keys, BaseException):
            raise _needing_the_right(keys, destination.url)
        yield from keys


def _list_keys(documents: Documents, prefix: str) -> list[str]:
    try:
        return list(documents.list(prefix))
    except StorageDenied as error:
        raise _needing_the_right(error, documents.at(prefix)) from None


def _needing_the_right(error: BaseException, where: str) -> BaseException:
    if not isinstance(error, StorageDenied):
        return error
    return StorageDenied(
        "can't list the objects to prune",
        on=where,
        why=error.why,
        hint="Grant s3:ListBucket on the bucket for this prefix (read access, if it is a folder). Nothing was deleted.",
    )


def _start_of_run(run_id: str) -> str | None:
    """Return a run's start from its run_id. An earlier attempt of the run has an earlier timestamp."""
    found = _RUN_ID.match(run_id)
    return None if found is None else f"{found[1]}{found[2]}Z"
