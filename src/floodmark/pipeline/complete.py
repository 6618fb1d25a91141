"""The announcement of a commit to schedulers, after head has moved.

The order is: the object at the destination, the message, the record in the state. The record comes last, so a commit
without one was perhaps not announced. A manifest says if its run was asked to announce it. The next run looks for such
commits without a record and announces them: each commit at least once, an older one before a later one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice

from msgspec.structs import asdict, replace

from floodmark.errors import Conflict, FloodmarkError, ObjectMissing, StateUnreadable, StorageError
from floodmark.events import Completed, Warned
from floodmark.layout import SUCCESS, complete_key
from floodmark.pipeline.publish import RunResult
from floodmark.pipeline.session import Session
from floodmark.retrying import Patience, retrying
from floodmark.state.announced import Completion
from floodmark.state.documents import Documents
from floodmark.state.ledger import Ledger
from floodmark.state.manifest import Manifest, encode
from floodmark.wording import plural

# The most commits to look back for one that was announced.
LOOK_BACK = 10
_PATIENCE = Patience(tries=5, deadline=30.0)
_TRIES = 10
_EVENT = "floodmark.completion"


# A committed manifest with its key.
Commit = tuple[str, Manifest]


def complete_earlier(session: Session) -> None:
    """Announce the commits of earlier runs that died before they could. A failure is a warning: this run tries again.

    The caller has checked that the state belongs to this run's database.
    """
    current, ledger = session.current, session.backends.ledger
    if not session.settings.completion.wanted or current is None or ledger is None or session.other_source:
        return
    try:
        session.incomplete = tuple(_incomplete_commits(ledger, (current.head.manifest, current.manifest)))
        _complete_all(session, ledger)
    except FloodmarkError as error:
        session.observe(Warned(f"an earlier commit is not announced yet: {error.sentence}"))


def complete_run(session: Session, result: RunResult) -> RunResult:
    """Announce this run's commit, and earlier ones that still need it.

    The commit stays, whatever happens here. Return the result with the error, if there is one.
    """
    ledger = session.backends.ledger
    if not session.settings.completion.wanted or ledger is None or result.manifest_key is None:
        return result
    try:
        found = _incomplete_commits(ledger, (result.manifest_key, result.manifest))
        session.incomplete = tuple(dict([*session.incomplete, *found]).items())
        _complete_all(session, ledger)
    except FloodmarkError as error:
        return replace(result, completion_error=error)
    return result


def _incomplete_commits(ledger: Ledger, newest: Commit) -> Sequence[Commit]:
    """Return the commits that should be announced and have no record, oldest first, at most `LOOK_BACK`.

    The search ends at a commit with a record, or at one whose run was not asked to announce it.
    """
    found: list[Commit] = []
    with suppress(ObjectMissing):  # prune ends history
        for key, manifest in islice(_back_from(ledger, newest), LOOK_BACK):
            if manifest.announces is not True or _is_recorded(ledger, manifest):
                break
            found.append((key, manifest))
    return found[::-1]


def _is_recorded(ledger: Ledger, manifest: Manifest) -> bool:
    return ledger.documents.get(complete_key(manifest.run_id)) is not None


def _back_from(ledger: Ledger, commit: Commit) -> Iterator[Commit]:
    """Yield a commit and those before it, as far as history goes. Prune deletes records before manifests."""
    yield commit
    head = ledger.head()
    oldest = None if head is None else head.oldest
    while (parent := commit[1].parent) is not None and commit[0] != oldest:
        commit = (parent, ledger.manifest(parent))
        yield commit


def _complete_all(session: Session, ledger: Ledger) -> None:
    """Announce one commit after another. What was not announced remains in the session."""
    while session.incomplete:
        _complete(session, ledger, session.incomplete[0])
        session.incomplete = session.incomplete[1:]


def _complete(session: Session, ledger: Ledger, commit: Commit) -> None:
    wanted, completion = session.settings.completion, _completion_of(ledger, commit)
    if wanted.object == "destination":
        _write_success(session, ledger, completion)
    if wanted.message is not None:
        _send(session, wanted.message, completion)
    key = complete_key(completion.run_id)
    ledger.documents.replace(key, encode(completion), None)  # if it is there, another process announced this commit
    session.observe(Completed(completion.run_id, completion.manifest))


def _write_success(session: Session, ledger: Ledger, completion: Completion) -> None:
    """Replace the object at the destination, as long as head names this commit.

    If head has moved on, the run that moved it writes the object. The conditional write makes the check of head and
    the write one step: whoever comes second reads head again.
    """
    destination = session.backends.destination
    documents = Documents(destination, unconditional=session.settings.destination.allow_unconditional_writes)
    for _ in range(_TRIES):
        etag = _success_etag(documents)
        head = ledger.head()
        if head is None or head.run_id != completion.run_id:
            return
        if documents.replace(SUCCESS, encode(completion), etag).ours:
            return
    raise Conflict("can't announce a commit", on=documents.at(SUCCESS), why="other runs keep replacing the object")


def _success_etag(documents: Documents) -> str | None:
    try:
        found = documents.fetch(Completion, SUCCESS)
    except StateUnreadable:
        hint = "Nothing was written over it. Remove it, or set completion.object: state."
        why = "another program wrote this object"
        raise StorageError("can't announce a commit", on=documents.at(SUCCESS), why=why, hint=hint) from None
    return found[1] if found is not None else None


def _send(session: Session, arn: str, completion: Completion) -> None:
    from floodmark.topics import TopicMessage, send_to_aws  # noqa: PLC0415 - by need: boto3 takes 0.15 s to load

    message = TopicMessage(
        event=_EVENT,
        identity=f"{completion.run_id}-completion",
        subject=f"Floodmark landed {completion.database}",
        text=_text(completion),
        document=asdict(completion),
    )
    policy = retrying(
        "announce a commit",
        lambda error: isinstance(error, FloodmarkError) and error.retryable,
        session.observe,
        _PATIENCE,
        sleep=session.stop.wait,
        stopping=session.stop.is_set,
    )
    policy(partial(send_to_aws, arn, message))


def _text(completion: Completion) -> str:
    failed = f", {completion.failed:,} of them not by this run" if completion.failed else ""
    return (
        f"Run {completion.run_id} committed {plural(completion.tables, 'table')} of {completion.database}{failed}.\n"
        f"Manifest: {completion.state}/{completion.manifest}\n"
        f"Data: {completion.destination}\n"
    )


def _completion_of(ledger: Ledger, commit: Commit) -> Completion:
    manifest_key, manifest = commit
    data = ledger.documents.get(manifest_key)
    if data is None:
        raise ObjectMissing("can't announce a commit", on=ledger.documents.at(manifest_key), why="it was pruned")
    entries = [entry for entry in manifest.tables if entry.status != "dropped"]
    return Completion(
        run_id=manifest.run_id,
        manifest=manifest_key,
        manifest_sha256=hashlib.sha256(data).hexdigest(),
        timestamp=manifest.timestamp,
        committed_at=manifest.finished_at,
        state=ledger.url,
        destination=manifest.destination,
        dialect=manifest.source.dialect,
        system_identifier=manifest.source.system_identifier,
        database=manifest.source.database,
        consistent=manifest.consistent,
        tables=len(entries),
        failed=sum(entry.status == "failed" for entry in entries),
    )
