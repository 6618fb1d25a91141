"""The facts about the end of a run that people are told, and the kinds of event that they make up. Pure."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import get_args

from msgspec import UNSET, Struct

from floodmark.config import NotifyKind
from floodmark.errors import FloodmarkError, Stopped, exit_code_of
from floodmark.events import ChunkAudited, Event, RunEnded, RunStarted
from floodmark.model import Outcome, TableEntry, TableName
from floodmark.pipeline.publish import RunResult
from floodmark.state.manifest import Manifest

KINDS: tuple[NotifyKind, ...] = get_args(NotifyKind)
# The tables of a message, by the kind of event that they belong to.
_BY_REASON: dict[str, NotifyKind] = {"schema_changed": "schema_changed"}
_BY_STATUS: dict[str, NotifyKind] = {"failed": "partial", "dropped": "tables_gone"}


class Problem(Struct, frozen=True):
    """The parts of an error that a reader needs. They hold no row's value and no secret, as all errors."""

    what: str
    on: str | None = None
    why: str | None = None
    hint: str | None = None

    @property
    def sentence(self) -> str:
        return ": ".join(part for part in (self.what, self.on, self.why) if part)


class TableFact(Struct, frozen=True):
    """A table that a message is about, with the kind of event and the reason."""

    kind: NotifyKind
    schema: str
    name: str
    reason: str
    detail: str

    @property
    def label(self) -> str:
        return TableName(self.schema, self.name).label


class RunFacts(Struct, frozen=True, kw_only=True):
    """The end of a run.

    `database` comes from the source or, before that is known, from the configuration. `run_id` is empty if the run did
    not begin. `problems` are the error that ended the run, or what failed after the commit. `checked` counts the tables
    that the run worked on and that still exist, `changed` and `unchanged` those of them that it could read.
    """

    outcome: Outcome
    exit_code: int
    database: str = ""
    run_id: str = ""
    destination: str = ""
    manifest: str | None = None
    problems: tuple[Problem, ...] = ()
    tables: tuple[TableFact, ...] = ()
    checked: int = 0
    changed: int = 0
    unchanged: int = 0

    @property
    def kinds(self) -> tuple[NotifyKind, ...]:
        """Return the kinds of event that happened, the gravest first."""
        found = {"succeeded" if self.outcome == "success" else self.outcome, *(one.kind for one in self.tables)}
        # A table can fail only as a part of something else.
        return tuple(kind for kind in KINDS if kind in found and (kind != "partial" or self.outcome == "partial"))

    def tables_of(self, kind: NotifyKind) -> tuple[TableFact, ...]:
        return tuple(one for one in self.tables if one.kind == kind)


class FactCollector:
    """An observer that keeps the facts which only events tell. Several threads can call `observe`."""

    def __init__(self, database: str) -> None:
        self.database = database
        self.run_id = self.destination = ""
        self.result: RunResult | None = None
        self.after_commit: list[BaseException] = []
        self._mismatches: list[TableName] = []
        self._lock = threading.Lock()

    def observe(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, RunStarted):
                self.run_id, self.destination = event.run_id, event.destination
                self.database = event.database or self.database
            elif isinstance(event, RunEnded):
                self.run_id, self.database = event.ended.run_id, event.ended.database or self.database
            elif isinstance(event, ChunkAudited) and not event.same and event.table not in self._mismatches:
                self._mismatches.append(event.table)

    def facts(self, exit_code: int, error: BaseException | None) -> RunFacts:
        """Return the facts, once the run has ended with a result or an error. After a commit, both are possible."""
        if self.result is None:
            return self._of_error(error, exit_code)
        if error is not None:
            self.after_commit.append(error)
        return self._of_commit(self.result, exit_code)

    def _of_error(self, error: BaseException | None, exit_code: int) -> RunFacts:
        stopped = isinstance(error, Stopped | KeyboardInterrupt)
        return RunFacts(
            outcome="stopped" if stopped else "failed",
            exit_code=exit_code,
            database=self.database,
            run_id=self.run_id,
            destination=self.destination,
            problems=(_problem(error),) if error is not None else (),
            tables=tuple(_mismatch(table) for table in self._mismatches),
        )

    def _of_commit(self, result: RunResult, exit_code: int) -> RunFacts:
        manifest = result.manifest
        entries = manifest.attempted
        return RunFacts(
            outcome="success" if exit_code == 0 else "partial",
            exit_code=exit_code,
            database=manifest.source.database,
            run_id=manifest.run_id,
            destination=manifest.destination,
            manifest=result.manifest_key,
            problems=tuple(map(_problem, self.after_commit)),
            tables=(*filter(None, map(_fact_of, entries)), *_contract_facts(manifest)),
            checked=sum(entry.status != "dropped" for entry in entries),
            changed=sum(entry.status == "extracted" for entry in entries),
            unchanged=sum(entry.status == "unchanged" for entry in entries),
        )


def facts_of_refusal(error: FloodmarkError, database: str) -> RunFacts:
    """Return the facts of a run that could not begin."""
    return FactCollector(database).facts(exit_code_of(error), error)


def _problem(error: BaseException) -> Problem:
    """Return an error's parts. An error that is not ours can hold anything, so only its class is shown."""
    if isinstance(error, KeyboardInterrupt):
        error = Stopped(2)
    if not isinstance(error, FloodmarkError):
        return Problem(f"internal error: {type(error).__qualname__}", hint="This is a bug. Please report it.")
    return Problem(error.what, error.on, error.why, error.hint)


def _fact_of(entry: TableEntry) -> TableFact | None:
    kind = _BY_STATUS.get(entry.status) or _BY_REASON.get(entry.reason.code)
    if kind is None or entry.reason.code == "attached":  # no row is gone
        return None
    return TableFact(kind, entry.schema, entry.name, entry.reason.code, entry.reason.detail)


def _contract_facts(manifest: Manifest) -> Iterator[TableFact]:
    """Yield the differences from the contract, each as a fact about its table."""
    for one in () if manifest.contract is UNSET else manifest.contract.drift:
        detail = one.detail if one.column is UNSET else f"{one.column}: {one.detail}"
        yield TableFact("contract", one.schema, one.name, one.kind, detail)


def _mismatch(table: TableName) -> TableFact:
    detail = "a chunk that was proven unchanged was read again, and differs"
    return TableFact("audit_mismatch", table.schema, table.name, "audit_mismatch", detail)
