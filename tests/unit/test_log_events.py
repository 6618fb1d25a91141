"""The events of the log: the document, the table in the code, and the lines that are written agree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from fix_cli import entry
from floodmark import model
from floodmark.cli.output.log_events import EVENTS, line_of
from floodmark.deliver import job as deliver
from floodmark.events import (
    ChunkAudited,
    ChunkDone,
    ChunkProgress,
    Completed,
    Event,
    ProgressFound,
    Retried,
    RunEnded,
    RunFinished,
    RunStarted,
    StepAdvanced,
    StepStarted,
    TableDecided,
    TableFinished,
    TableGivenUp,
    Warned,
    WrittenBlocksRead,
)
from floodmark.load import job as load
from floodmark.model import Chunk, Ended, Point, Reason, TableName

ROOT = Path(__file__).parents[2]
TABLE = TableName("public", "person")
ENDED = Ended(run_id="r", database="db", started_at="t", ended_at="t", outcome="success", exit_code=0)
SAMPLES: dict[str, Event] = {
    "run_started": RunStarted("r", "s", "d", Point("t"), 1, "db", "native"),
    "progress_found": ProgressFound("r", 2),
    "wal_summaries": WrittenBlocksRead(7, 5, 0.1, "why"),
    "table_decided": TableDecided(TABLE, Reason("forced", "why"), 2, 2, 0),
    "chunk_done": ChunkDone(TABLE, 1, 2, 3, 0.1),
    "chunk_audited": ChunkAudited(TABLE, True),
    "audit_failed": ChunkAudited(TABLE, False),
    "table_extracted": TableFinished(entry()),
    "table_unchanged": TableFinished(entry(status="unchanged")),
    "table_dropped": TableFinished(entry(status="dropped")),
    "table_failed": TableFinished(entry(status="failed")),
    "run_finished": RunFinished("r", 1, 1, 1, 0.1),
    "completion_sent": Completed("r", "manifests/r.json"),
    "retry": Retried("put", "timeout", 2),
    "warning": Warned("text"),
}


def documented() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Name, level and fields of each event in docs/cli.md."""
    text = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    table = text.split("\n| event | level | fields | meaning |\n")[1].split("\n\n")[0]
    for line in table.splitlines()[1:]:
        event, level, fields, meaning = line.strip("| ").split(" | ")
        assert meaning.endswith(".")
        yield event.strip("`"), level.strip("`"), tuple(re.findall(r"`(\w+)`", fields))


def written() -> Iterator[tuple[str, set[str]]]:
    """Each event that the code writes by a constant name, with the fields that stand next to the name."""
    for path in sorted((ROOT / "src/floodmark/cli").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
                continue
            if node.func.id not in ("Line", "finished_line"):
                continue
            keys = node.args[1].keys if isinstance(node.args[1], ast.Dict) else []
            fields = {key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
            names = [one for one in ast.walk(node.args[0]) if isinstance(one, ast.Constant)]
            for name in names if not isinstance(node.args[0], ast.JoinedStr) else []:
                if isinstance(name.value, str):
                    yield name.value, fields


def test_the_document_has_exactly_the_events_that_exist() -> None:
    assert list(documented()) == [(name, event.level, event.fields) for name, event in EVENTS.items()]


def test_the_code_writes_exactly_these_events() -> None:
    found = dict[str, set[str]]()
    for name, fields in written():
        found.setdefault(name, set()).update(fields)
    for name, fields in found.items():
        assert fields <= set(EVENTS[name].fields), name
    statuses = {*get_args(model.Status), *get_args(load.Status), *get_args(deliver.Status)}
    by_variable = {f"table_{status}" for status in statuses}
    by_other_means = {"stop_requested", "ended_at_once"}
    assert {*found, *by_variable, *by_other_means} == set(EVENTS)
    for name in by_other_means:
        sources = (path.read_text(encoding="utf-8") for path in (ROOT / "src/floodmark/cli").rglob("*.py"))
        assert any(f'"{name}"' in text for text in sources if "EVENTS: dict" not in text)


@pytest.mark.parametrize(("name", "event"), SAMPLES.items(), ids=list(SAMPLES))
def test_the_line_of_an_event_has_its_fields(name: str, event: Event) -> None:
    line = line_of(event)
    assert line is not None and line.event == name
    assert set(line.fields) <= set(EVENTS[name].fields)


def test_every_event_of_a_run_has_a_line_except_its_end_and_its_progress() -> None:
    kinds: set[Any] = {type(event) for event in SAMPLES.values()}
    silent = [
        RunEnded(ENDED),
        StepStarted("extracting", {TABLE: 1}),
        StepAdvanced(),
        ChunkProgress(TABLE, Chunk("1"), 1),
        TableGivenUp(TABLE),
    ]
    assert kinds == set(get_args(Event)) - {type(event) for event in silent}
    assert [line_of(event) for event in silent] == [None] * len(silent)


def test_names_are_constant_words() -> None:
    for name, event in EVENTS.items():
        assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", word) for word in (name, *event.fields))
        assert not {"timestamp", "level", "event", "run_id"} & set(event.fields)
