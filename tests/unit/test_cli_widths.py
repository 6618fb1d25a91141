"""What the commands print at 80, 120 and 200 columns, compared with the texts in `widths/`.

To write these texts again after a change that was meant: `WRITE_WIDTHS=1 pytest tests/unit/test_cli_widths.py`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.console import Console

from fix_cli import Tty, command_streams, entry, head, manifest, part
from floodmark.cli.commands.journal import status_text
from floodmark.cli.output import overview, render, render_state, views
from floodmark.cli.output.render_diff import diff_text
from floodmark.cli.output.render_overview import overview_text
from floodmark.cli.output.streams import console
from floodmark.cli.output.views import ChunkCounts
from floodmark.differences import compare_manifests
from floodmark.errors import StorageUnavailable
from floodmark.journal.plan import TriggerState
from floodmark.journal.status import FaultView, JournalDocument, JournalTableView
from floodmark.model import Column, Ended, Reason, TableEntry, TableName
from floodmark.pipeline.entries import carried_over
from floodmark.pipeline.job import PlannedTable
from floodmark.pipeline.publish import RunResult
from floodmark.source.postgres.journal_names import WRITE_TRIGGER
from floodmark.state.manifest import Manifest, Working
from floodmark.state.run_list import KnownRun

TEXTS = Path(__file__).parent / "widths"
NOW = datetime(2026, 11, 24, 3, 2, 3, tzinfo=UTC)
LONG = "offender_management_allocation_case_information_history"


def tables() -> tuple[TableEntry, ...]:
    return (
        entry("address", detail="12,043 rows inserted or updated (3 of 41 chunks)"),
        replace(entry("audit_event", "unchanged", "unchanged"), rows=123_456_789),
        entry("case_note", "failed", "denied", detail='no SELECT: GRANT SELECT ON "public"."case_note" TO "reader"'),
        entry(
            LONG, code="schema_changed", detail="columns added: date_of_transfer, reason_for_transfer; removed: note"
        ),
        entry("migration_backup", "dropped", "dropped", detail="the table no longer exists in the source"),
        replace(entry("visit", "failed", "failed", as_of=None, detail="never read"), rows=None),
        carried_over(entry("weekly", "failed", "failed", detail="the connection broke")),
    )


def failed(run_id: str, **fields: object) -> KnownRun:
    ended = Ended(
        run_id=run_id,
        database="cases",
        started_at="2026-11-23T01:02:03.000Z",
        ended_at="2026-11-23T02:14:03.000Z",
        outcome="stopped",
        exit_code=143,
        uploaded_bytes=734_000_000,
        chunks=1204,
        chunks_done=312,
    )
    return KnownRun(ended=replace(ended, **fields))


RUNS = [
    KnownRun(
        working=Working(
            run_id="20261124T030000Z-0e1a2b",
            timestamp="20261124030000Z",
            progress="progress/20261124T030000Z-0e1a2b.json",
            started_at="2026-11-24T03:00:00Z",
        )
    ),
    KnownRun(manifest=manifest(*tables())),
    failed("20261123T010203Z-aaaaaa"),
    failed(
        "20261122T010203Z-bbbbbb",
        outcome="failed",
        exit_code=12,
        error="can't connect to the source: reader@db.internal.example.service.justice.gov.uk:5432/cases: the server "
        "does not answer",
        chunks=0,
        chunks_done=0,
    ),
]


def planned() -> list[PlannedTable]:
    first = Reason("first_run", "never extracted before")
    return [
        PlannedTable(
            TableName("public", LONG), Reason("rows_changed", "3 rows inserted or updated"), 41, 3, 201_000_000
        ),
        PlannedTable(
            TableName("public", "case_note"), Reason("denied", 'GRANT SELECT ON "public"."case_note"'), 0, 0, 0
        ),
        PlannedTable(TableName("public", "visit"), first, 1204, 1204, 80_000_000_000),
        PlannedTable(TableName("public", "old"), Reason("unchanged", "proven unchanged"), 1, 0, 0),
    ]


def status(to: Console) -> str:
    one = manifest(*tables())
    shown = render_state.status_table(head(one), [views.table_status(each, NOW) for each in one.tables], NOW, to)
    return shown + "\n" + history(to)


def status_many(to: Console) -> str:
    """Four states: one with everything, one whose database's name is long, one that is fine, one that is away."""
    one = manifest(*tables())
    rows = tuple(views.table_status(each, NOW) for each in one.tables)
    runs = tuple(views.run_summary(run) for run in RUNS)
    bad = views.StatusDocument(head=head(one), tables=rows, runs=runs[2:])
    fine = views.StatusDocument(head=head(one), tables=rows[:2], runs=runs[1:2])
    long = replace(fine, head=replace(head(one), database=LONG))
    away = StorageUnavailable("can't read an object", on="s3://lake/away/_floodmark/head.json", why="HTTP 503")
    found = {"cases": bad, "long": long, "staff": replace(fine, head=replace(head(one), database="staff"))}
    summaries = [overview.summary(f"s3://lake/{name}/_floodmark", each, NOW) for name, each in found.items()]
    summaries += [overview.summary("s3://lake/away/_floodmark", away, NOW)]
    return overview_text(overview.worst_first(summaries), to)


def history(to: Console) -> str:
    return render_state.history_table([views.run_summary(run) for run in RUNS], to)


def run(to: Console) -> str:
    told = {TableName("public", "address"): ChunkCounts(3, 41)}
    place = "manifests/20261124T010203Z-7f3a9c.json"
    done = RunResult(manifest(*tables()), place, 4_200_000, 72.4)
    return render.run_table(done.manifest, told, to) + render.run_line(done, f"manifest s3://mine/state/{place}", to)


def diff(to: Console) -> str:
    """A day with every kind of difference, in a database that was moved to another server."""
    before = manifest(*tables()[:5], run_id="20261123T010203Z-aaaaaa")
    moved = replace(before.source, system_identifier="8")
    other = {
        "checksum": "sha256:" + "d" * 64,
        "objects": (part(0), *(replace(part(n), content_sha256="e" * 64) for n in (8, 9))),
    }
    columns = (Column("id", "bigint", False), Column("date_of_transfer", "date", True))
    now = (
        replace(tables()[0], rows=12_045_001, stored_bytes=80_000_000_000, **other),
        replace(entry(LONG), rows=1_980, columns=columns, **other),
        tables()[1],
        tables()[4],
        entry("new_table"),
        tables()[5],
    )
    found = compare_manifests(before, replace(manifest(*now), source=moved))
    return diff_text(found, to)


def show_table(to: Console) -> str:
    one: Manifest = manifest(*tables())
    return render_state.table_facts(one, replace(one.tables[0], objects=(part(0), part(8, "reused"))))


def journal_status(to: Console) -> str:
    missing: tuple[TriggerState, ...] = ("missing", "disabled")
    faults = tuple(
        FaultView(schema="public", name=f"{LONG}_2026_{number}", trigger=WRITE_TRIGGER, state=state)
        for number, state in enumerate(missing)
    )
    tables = (
        JournalTableView(schema="public", name="address", state="on", relations=1, faults=()),
        JournalTableView(schema="public", name=LONG, state="incomplete", relations=1204, faults=faults),
        JournalTableView(schema="public", name="visit", state="incomplete", relations=1, faults=(), subscribed=True),
    )
    fault = "the trigger guard_delete of floodmark.journal is missing or disabled"
    return status_text(
        JournalDocument(revision="0001", rows=12_043, bytes=1_204_300, faults=(fault,), tables=tables), to
    )


SCREENS: dict[str, Callable[[Console], str]] = {
    "run": run,
    "plan": lambda to: render.plan_table(planned(), to),
    "status": status,
    "status_many": status_many,
    "history": history,
    "show": lambda to: render_state.manifest_table(manifest(*tables()), to),
    "show_table": show_table,
    "diff": diff,
    "journal_status": journal_status,
}


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("screen", SCREENS)
def test_a_screen_at_a_width(screen: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = SCREENS[screen](console(command_streams(out=Tty())[0].out, {"TERM": "xterm"}))
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    file = TEXTS / f"{screen}_{width}.txt"
    if os.environ.get("WRITE_WIDTHS"):
        TEXTS.mkdir(exist_ok=True)
        file.write_text(plain)
    assert plain == file.read_text()
    whole = [LONG, "20261124T010203Z-7f3a9c", "20261122T010203Z-bbbbbb", "80.0 GB"]
    assert all(name in plain for name in whole if name in SCREENS[screen](Console(width=10_000)))


@pytest.mark.parametrize("screen", sorted({*SCREENS} - {"show_table"}))
def test_no_line_is_wider_than_a_terminal_unless_a_name_is(screen: str) -> None:
    for width in (80, 120, 200):
        lines = (TEXTS / f"{screen}_{width}.txt").read_text().splitlines()
        assert [line for line in lines if len(line) > width and LONG not in line] == []
