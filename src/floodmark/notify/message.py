"""The text of a notification: what happened, to which tables, why, and what to do. Pure.

No part of it is a row's value or a secret: it is made of errors, reasons and names, which hold none.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, replace

from floodmark.config import NotifyKind
from floodmark.errors import LossRefused
from floodmark.escaping import printable
from floodmark.notify.facts import Problem, RunFacts, TableFact
from floodmark.wording import plural

SHOWN_TABLES = 10  # in a text
_SENT_TABLES = 100  # in a document
_SENTENCE_LENGTH = 400
_EVENT = "floodmark.notification"
RUNBOOK = "ops/runbook.md"  # in a checkout

# The entry of the runbook for each kind of event.
ENTRIES: dict[NotifyKind, str] = {
    "audit_mismatch": "FloodmarkAuditMismatch",
    "failed": "FloodmarkRunFailed",
    "stopped": "FloodmarkRunFailed",
    "partial": "FloodmarkTableFailed",
    "tables_gone": "FloodmarkTableDropped",
    "contract": "FloodmarkContractDrift",
    "schema_changed": "FloodmarkSchemaChanged",
}
_MEANINGS: dict[NotifyKind, str] = {
    "audit_mismatch": "A chunk that was proven unchanged had changed. Consumers can have wrong data of this table.",
    "failed": "Nothing was committed. Consumers still see the last snapshot.",
    "stopped": "Nothing was committed. The next run continues from the finished work.",
    "tables_gone": "These tables are no longer in the source. They are in no later snapshot.",
    "contract": "The database differs from the contract. The run kept to the settings of `contract`.",
    "schema_changed": "The definition of these tables changed. Consumers with a fixed schema can break.",
}
# A message about one of these says why, in the words of the error.
_WITH_PROBLEMS: frozenset[NotifyKind] = frozenset({"audit_mismatch", "failed", "stopped", "partial"})
# What to do, unless an error has a hint of its own.
_ADVICE: dict[NotifyKind, str] = {
    "audit_mismatch": "Suspend the job, and extract everything again: floodmark run --full.",
    "failed": "Fix the cause, then start a run again. It does not repeat finished work.",
    "stopped": "If nobody stopped it on purpose, find out what did. Then start a run again.",
    "partial": "Fix the cause. The next run tries again.",
    "tables_gone": "If that was intended, do nothing. If not, suspend prune: the last snapshot still has their rows.",
    "contract": "Review the differences. To approve one: floodmark contract accept TABLE, or TABLE.COLUMN.",
    "schema_changed": "Tell the consumers. If a new column must not leave the source, exclude it and run again.",
}


class Section(Struct, frozen=True):
    """The part of a text that is about one kind of event: lines, a list of tables, and more lines."""

    head: tuple[str, ...]
    tables: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()


class Message(Struct, frozen=True, kw_only=True):
    """A notification in all the forms that a channel can need.

    `identity` is the same in each repetition. `document` is for programs. `text` joins the sections for people.
    """

    identity: str
    kinds: tuple[str, ...]
    title: str
    sections: tuple[Section, ...]
    document: dict[str, Any]

    @property
    def event(self) -> str:
        return _EVENT

    def text(self, limit: int | None = None) -> str:
        """Return the text, with fewer tables if it would be longer than `limit` characters."""
        text = ""
        tables = sum(len(section.tables) for section in self.sections)
        for shown in range(min(tables, SHOWN_TABLES), -1, -1):
            text = "\n".join(_joined(self.sections, shown))
            if limit is None or len(text) <= limit:
                return text
        return f"{text[: (limit or 1) - 1]}…"


def compose(facts: RunFacts, kinds: Sequence[NotifyKind], runbook_url: str | None) -> Message:
    """Return the message about these kinds of event, the gravest first."""
    why = next((kind for kind in kinds if kind in _WITH_PROBLEMS), None)
    sections = [_section(kind, facts, runbook_url, is_why=kind == why) for kind in kinds]
    message = Message(
        identity=secrets.token_hex(8),
        kinds=tuple(kinds),
        title=_title(kinds[0], facts),
        sections=(*sections, Section((_about(facts),))),
        document={},
    )
    tables = [table for kind in kinds for table in facts.tables_of(kind)]
    links = [_runbook_link(kind, facts, runbook_url) for kind in kinds if kind in ENTRIES]
    return _with_document(message, facts, tables, list(dict.fromkeys(links)))


def compose_test(name: str) -> Message:
    """Return the message of `floodmark notify test`."""
    lines = (f"This is a test of the channel {name}. Nothing has happened.", "Nothing needs to be done.")
    title = "Floodmark: test message"
    sections = (Section(lines),)
    message = Message(identity=secrets.token_hex(8), kinds=("test",), title=title, sections=sections, document={})
    return _with_document(message, None, [], [])


def _with_document(message: Message, facts: RunFacts | None, tables: Sequence[TableFact], links: list[str]) -> Message:
    about = {} if facts is None else {name: getattr(facts, name) for name in _SENT_FACTS}
    document = {
        "format": _EVENT,
        "version": 1,
        "id": message.identity,
        "kinds": list(message.kinds),
        "title": message.title,
        "text": message.text(),
        **about,
        "problems": [] if facts is None else [asdict(problem) for problem in facts.problems],
        "tables": [asdict(table) for table in tables[:_SENT_TABLES]],
        "tables_total": len(tables),
        "runbook": links,
    }
    return replace(message, document=document)


_SENT_FACTS = (
    "outcome",
    "exit_code",
    "database",
    "run_id",
    "destination",
    "manifest",
    "checked",
    "changed",
    "unchanged",
)


def _title(kind: NotifyKind, facts: RunFacts) -> str:
    gone, changed = facts.tables_of("tables_gone"), facts.tables_of("schema_changed")
    drift = facts.tables_of("contract")
    texts: dict[NotifyKind, str] = {
        "audit_mismatch": "the audit found a difference",
        "failed": "the run failed",
        "stopped": "the run was stopped",
        "partial": "the run is committed, but incomplete",
        "tables_gone": f"{plural(len(gone), 'table')} gone from the source",
        "contract": f"{plural(len(drift), 'difference')} from the contract",
        "schema_changed": f"{plural(len(changed), 'table')} with a changed definition",
        "succeeded": "the run succeeded",
    }
    return ": ".join(part for part in ("Floodmark", printable(facts.database), texts[kind]) if part)


def _section(kind: NotifyKind, facts: RunFacts, runbook_url: str | None, *, is_why: bool) -> Section:
    """Return the section about one kind of event. `is_why`: it says why, for all kinds that end a run in this way."""
    tables = tuple(_table_line(table) for table in facts.tables_of(kind))
    problems = facts.problems if is_why else ()
    tail = list(_problem_lines(problems))
    is_advised = is_why or kind not in _WITH_PROBLEMS
    if kind in _ADVICE and is_advised and not any(problem.hint for problem in problems):
        tail.append(f"What to do: {_ADVICE[kind]}")
    if kind in ENTRIES:
        tail.append(f"Runbook: {_runbook_link(kind, facts, runbook_url)}")
    return Section((_meaning(kind, facts),), tables, tuple(tail))


def _joined(sections: Sequence[Section], shown: int) -> Iterator[str]:
    """Yield the lines of all sections, with the first tables only, and a blank line between sections."""
    for number, section in enumerate(sections):
        if number:
            yield ""
        listed = section.tables[:shown]
        shown -= len(listed)
        rest = len(section.tables) - len(listed)
        yield from (*section.head, *listed)
        if rest:
            yield f"- and {rest:,} more" if listed else f"- {plural(rest, 'table')}"
        yield from section.tail


def _meaning(kind: NotifyKind, facts: RunFacts) -> str:
    if kind == "partial":
        failed = len(facts.tables_of("partial"))
        if not failed:
            return "The run is committed, but a step after the commit failed. The next run repeats it."
        kept = "Their last good snapshots stay."
        return f"The run is committed. {failed:,} of {plural(facts.checked, 'table')} failed. {kept}"
    if kind == "succeeded":
        counts = f"{facts.changed:,} changed, {facts.unchanged:,} unchanged"
        return f"The run committed {plural(facts.checked, 'table')}: {counts}."
    return _MEANINGS[kind]


def _problem_lines(problems: Iterable[Problem]) -> Iterator[str]:
    for problem in problems:
        yield f"Why: {_shortened(problem.sentence)}"
        if problem.hint is not None:
            yield f"What to do: {_shortened(problem.hint)}"


def _table_line(table: TableFact) -> str:
    return f"- {printable(table.label)}: {table.reason}: {_shortened(table.detail)}"


def _about(facts: RunFacts) -> str:
    about = [f"run {facts.run_id}"] if facts.run_id else []
    about.append(f"exit code {facts.exit_code}")
    if facts.destination:
        about.append(f"destination {printable(facts.destination)}")
    return f"({', '.join(about)})"


def _runbook_link(kind: NotifyKind, facts: RunFacts, runbook_url: str | None) -> str:
    return f"{runbook_url or RUNBOOK}#{_entry(kind, facts).lower()}"


def _entry(kind: NotifyKind, facts: RunFacts) -> str:
    """Return the runbook's entry. A failed delivery is not the failure of a table, nor a refusal that of a run."""
    if kind == "failed" and facts.exit_code == LossRefused.exit_code:
        return "FloodmarkLossRefused"
    return ENTRIES["failed" if kind == "partial" and not facts.tables_of("partial") else kind]


def _shortened(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= _SENTENCE_LENGTH else f"{shown[: _SENTENCE_LENGTH - 1]}…"
