"""Notifications: the facts, the texts, the intervals, and the ten seconds that all channels have together."""

from __future__ import annotations

import re
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from fix_cli import EVIL, EVIL_SHOWN, entry, manifest
from floodmark.config import ChannelSettings, NotifyKind, NotifySettings, Secret
from floodmark.config.notifications import DEFAULT_KINDS
from floodmark.errors import LossRefused, MessageError, MessageUnanswered, SourceUnavailable, Stopped, StorageError
from floodmark.events import ChunkAudited, Event, Retried, RunStarted, Warned, ignore_event
from floodmark.layout import INFLIGHT, NOTIFIED
from floodmark.model import ContractDrift, ContractFacts, Point, TableName
from floodmark.notify import job
from floodmark.notify.channels.memory import MemoryChannel
from floodmark.notify.channels.webhook import signature
from floodmark.notify.facts import FactCollector, RunFacts, TableFact, facts_of_refusal
from floodmark.notify.intervals import Outcome, due_kinds, with_outcomes
from floodmark.notify.job import OpenChannel, send_all, tell
from floodmark.notify.message import ENTRIES, SHOWN_TABLES, Message, compose, compose_test
from floodmark.pipeline.entries import carried_over
from floodmark.pipeline.publish import RunResult
from floodmark.state.announced import Notified
from floodmark.state.documents import Documents
from floodmark.state.manifest import Inflight, decode, encode
from floodmark.storage.memory import MemoryStorage

RUNBOOK = (Path(__file__).parents[2] / "ops/runbook.md").read_text(encoding="utf-8")
NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
KINDS: tuple[NotifyKind, ...] = get_args(NotifyKind)
TABLE = TableName("public", "person")


def committed(*entries: Any, code: int = 0) -> RunFacts:
    collector = FactCollector("configured")
    collector.result = RunResult(manifest(*entries), "manifests/r.json", 1, 1.0)
    return collector.facts(code, None)


# Facts


def test_a_success_is_told_with_its_numbers() -> None:
    facts = committed(entry("a"), entry("b", "unchanged", "unchanged"))
    assert facts.kinds == ("succeeded",)
    assert (facts.checked, facts.changed, facts.unchanged) == (2, 1, 1)
    assert (facts.database, facts.manifest, facts.exit_code) == ("cases", "manifests/r.json", 0)


def test_one_run_can_be_several_kinds_of_event_and_the_gravest_comes_first() -> None:
    facts = committed(
        entry("a", "failed", "denied"),
        entry("b", "dropped", "dropped"),
        entry("c", "extracted", "schema_changed"),
        entry("d", "unchanged", "unchanged"),
        code=3,
    )
    assert facts.kinds == ("partial", "tables_gone", "schema_changed")
    assert [KINDS.index(kind) for kind in facts.kinds] == sorted(KINDS.index(kind) for kind in facts.kinds)
    assert {one.name: one.kind for one in facts.tables} == {
        "a": "partial",
        "b": "tables_gone",
        "c": "schema_changed",
    }


def test_tables_that_the_run_left_out_are_not_told() -> None:
    facts = committed(carried_over(entry("a", "failed", "denied")), entry("b"))
    assert facts.kinds == ("succeeded",) and facts.tables == () and facts.checked == 1


def test_an_error_tells_why_and_what_to_do() -> None:
    collector = FactCollector("configured")
    collector.observe(RunStarted("r1", "source", "s3://lake", Point("t"), 1, "cases"))
    error = SourceUnavailable("can't read", on="db", why="closed", hint="Start it.")
    facts = collector.facts(12, error)
    assert facts.kinds == ("failed",)
    assert (facts.run_id, facts.database, facts.destination) == ("r1", "cases", "s3://lake")
    assert facts.problems[0].sentence == "can't read: db: closed" and facts.problems[0].hint == "Start it."


def test_a_failed_audit_is_told_as_such() -> None:
    collector = FactCollector("cases")
    for _ in range(2):
        collector.observe(ChunkAudited(TABLE, False))
    collector.observe(ChunkAudited(TableName("public", "other"), True))
    facts = collector.facts(14, StorageError("x"))
    assert facts.kinds == ("audit_mismatch", "failed")
    assert [one.label for one in facts.tables] == ["public.person"]
    text = compose(facts, facts.kinds, None).text()
    assert text.count("Why: x") == text.count("What to do: ") == 1 and text.count("Runbook: ") == 2


@pytest.mark.parametrize("error", [Stopped(15), KeyboardInterrupt()])
def test_a_stopped_run_did_not_fail(error: BaseException) -> None:
    assert FactCollector("").facts(143, error).kinds == ("stopped",)


def test_an_error_that_is_not_ours_shows_only_its_class() -> None:
    facts = FactCollector("").facts(1, ValueError("c4n4ry"))
    assert facts.problems[0].what == "internal error: ValueError" and "c4n4ry" not in str(facts)


def test_what_fails_after_the_commit_does_not_undo_it() -> None:
    collector = FactCollector("")
    collector.result = RunResult(manifest(entry("a")), "manifests/r.json", 1, 1.0)
    collector.after_commit.append(StorageError("a delivery failed", on="moj"))
    facts = collector.facts(143, Stopped(15))
    assert facts.kinds == ("partial",)
    assert [one.what for one in facts.problems] == ["a delivery failed", "stopped"]
    text = compose(facts, facts.kinds, None).text()
    assert "The run is committed, but a step after the commit failed." in text and "#floodmarkrunfailed" in text


def test_a_run_that_could_not_begin() -> None:
    facts = facts_of_refusal(SourceUnavailable("can't begin"), "cases")
    assert facts.kinds == ("failed",) and facts.exit_code == 12 and facts.run_id == ""


def test_a_refusal_of_the_guards_has_an_entry_of_its_own_and_names_the_flag() -> None:
    facts = FactCollector("cases").facts(15, LossRefused("too much", on="public.a", why="gone", hint="--accept-loss"))
    text = compose(facts, facts.kinds, None).text()
    assert facts.kinds == ("failed",) and "#floodmarklossrefused" in text and "--accept-loss" in text
    assert re.search(r"^## FloodmarkLossRefused$", RUNBOOK, re.MULTILINE)


# Texts


def tables(number: int, kind: NotifyKind = "partial") -> tuple[TableFact, ...]:
    return tuple(TableFact(kind, "public", f"t{n}", "denied", "no right") for n in range(number))


def facts_with(number: int) -> RunFacts:
    return RunFacts(outcome="partial", exit_code=3, database="cases", run_id="r1", tables=tables(number), checked=99)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_title_a_meaning_and_an_entry_in_the_runbook(kind: NotifyKind) -> None:
    facts = RunFacts(outcome="failed", exit_code=1, database="cases", tables=tables(1, kind))
    message = compose(facts, [kind], "https://docs.example.org/runbook.md")
    assert message.title.startswith("Floodmark: cases: ")
    assert message.sections[0].head[0].endswith(".")
    if kind == "succeeded":
        assert message.document["runbook"] == [] and "What to do" not in message.text()
        return
    assert "\nWhat to do: " in message.text()
    assert re.search(rf"^## {ENTRIES[kind]}$", RUNBOOK, re.MULTILINE)
    (link,) = message.document["runbook"]
    assert link == f"https://docs.example.org/runbook.md#{ENTRIES[kind].lower()}"
    assert f"Runbook: {link}" in message.text()


def test_many_tables_are_folded() -> None:
    few, many = compose(facts_with(SHOWN_TABLES), ["partial"], None), compose(facts_with(300), ["partial"], None)
    assert few.text().count("\n- public.t") == SHOWN_TABLES and "more" not in few.text()
    assert many.text().count("\n- public.t") == SHOWN_TABLES and "\n- and 290 more\n" in many.text()
    assert len(many.document["tables"]) == 100 and many.document["tables_total"] == 300


@pytest.mark.parametrize("limit", [900, 500, 300, 40])
def test_a_text_fits_where_it_must(limit: int) -> None:
    """What says how many there are, and where to read on, goes last."""
    text = compose(facts_with(300), ["partial"], None).text(limit)
    assert len(text) <= limit
    assert limit == 40 or ("300" in text and "Runbook: ops/runbook.md#floodmarktablefailed" in text)


def test_only_the_wanted_kinds_are_told() -> None:
    facts = RunFacts(outcome="partial", exit_code=3, tables=(*tables(1), *tables(2, "tables_gone")))
    message = compose(facts, ["tables_gone"], None)
    assert message.title == "Floodmark: 2 tables gone from the source"
    assert {one["kind"] for one in message.document["tables"]} == {"tables_gone"} and message.kinds == ("tables_gone",)


def test_names_can_not_control_a_terminal() -> None:
    fact = TableFact("partial", "public", EVIL, "failed", EVIL)
    text = compose(RunFacts(outcome="partial", exit_code=3, database=EVIL, tables=(fact,)), ["partial"], None).text()
    assert text.count(EVIL_SHOWN) == 2 and "\x1b" not in text
    assert EVIL_SHOWN in compose(RunFacts(outcome="failed", exit_code=1, database=EVIL), ["failed"], None).title


def test_a_long_reason_is_cut() -> None:
    fact = TableFact("partial", "public", "t", "failed", "x" * 5000)
    assert len(compose(RunFacts(outcome="partial", exit_code=3, tables=(fact,)), ["partial"], None).text()) < 1000


def test_a_test_message_says_that_it_is_one() -> None:
    message = compose_test("slack")
    assert message.kinds == ("test",) and "slack" in message.text() and "Nothing has happened" in message.text()


# The document


DOCUMENT = (Path(__file__).parents[2] / "docs/notifications.md").read_text(encoding="utf-8")


def test_every_kind_and_every_field_is_documented_and_every_documented_one_exists() -> None:
    kinds, fields = (
        re.findall(r"^\| `(\w+)` \|", DOCUMENT.split(f"| {head} |")[1].split("\n\n")[0], re.MULTILINE)
        for head in ("kind | when", "field | meaning")
    )
    assert kinds == list(KINDS)
    assert fields == list(compose(facts_with(1), ["partial"], None).document)
    test_fields = set(compose_test("slack").document)
    assert set(fields) - test_fields == set(fields[fields.index("outcome") : fields.index("unchanged") + 1])
    (default,) = re.findall(r"The default is (.*?)\. If", DOCUMENT)
    assert re.findall(r"`(\w+)`", default) == list(DEFAULT_KINDS)


def test_the_check_of_a_signature_in_the_document_works() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    now, body = str(int(time.time())), b"{}"
    headers = {"X-Floodmark-Timestamp": now, "X-Floodmark-Signature": signature(Secret("shared"), now, body)}
    assert names["is_genuine"](headers, body, "shared") is True
    assert not names["is_genuine"](headers, body + b" ", "shared")
    assert not names["is_genuine"](headers, body, "other")
    old = str(int(now) - 600)
    late = {"X-Floodmark-Timestamp": old, "X-Floodmark-Signature": signature(Secret("shared"), old, body)}
    assert not names["is_genuine"](late, body, "shared")


# Intervals


def channel_settings(name: str = "team", interval: int = 0, *on: NotifyKind) -> ChannelSettings:
    return ChannelSettings(name=name, kind="webhook", to=Secret("x"), on=on or KINDS, min_interval=interval)


def sent(*kinds: NotifyKind, channel: str = "team") -> Outcome:
    return Outcome(channel=channel, kinds=kinds, result="sent")


@pytest.mark.parametrize(
    ("minutes", "due"), [(1, False), (59, False), (60, True), (61, True), (-5, True)], ids=lambda one: str(one)
)
def test_a_kind_is_told_again_only_after_its_interval(minutes: int, due: bool) -> None:
    """A time in the future comes from a clock that was ahead: it must not silence a channel."""
    notified = with_outcomes(Notified(), [sent("failed")], NOW - timedelta(minutes=minutes))
    team = channel_settings("team", 3600)
    assert due_kinds(notified, team, ["failed", "partial"], NOW) == (("failed", "partial") if due else ("partial",))
    assert due_kinds(notified, channel_settings("other", 3600), ["failed"], NOW) == ("failed",)
    assert due_kinds(notified, channel_settings("team", 0), ["failed"], NOW) == ("failed",)


def test_outcomes_are_counted_and_only_what_was_sent_starts_an_interval() -> None:
    failed = Outcome(channel="team", kinds=("partial",), result="failed", why="x")
    held = Outcome(channel="team", kinds=("stopped",), result="held")
    after = with_outcomes(with_outcomes(Notified(), [sent("failed")], NOW), [failed, held, sent("failed")], NOW)
    (team,) = after.channels
    assert (team.sent, team.failed) == (2, 1) and [one.kind for one in team.last] == ["failed"]


# All of it in time


def test_differences_from_the_contract_are_told_although_the_run_succeeded() -> None:
    drift = ContractDrift(kind="new_column", schema="public", name="t", column="nino", action="excluded", detail="new")
    told = FactCollector("cases")
    told.result = RunResult(replace(manifest(entry("t")), contract=ContractFacts("d", (drift,))), "key", 0, 1.0)
    facts = told.facts(0, None)
    assert facts.kinds == ("contract", "succeeded")
    text = compose(facts, ["contract"], None).text()
    assert "- public.t: new_column: nino: new" in text and "floodmark contract accept" in text
    assert "FloodmarkContractDrift".lower() in text


FACTS = RunFacts(outcome="failed", exit_code=12, database="cases")


class SlowChannel:
    """A channel that answers after some seconds, or never."""

    name = "slow"

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.calls = 0

    def send(self, message: Message, timeout: float) -> None:
        self.calls += 1
        time.sleep(self._seconds)


def opened(*channels: Any, **named: Any) -> list[OpenChannel]:
    return [OpenChannel(channel_settings(one.name, **named), one) for one in channels]


def unanswered() -> MessageUnanswered:
    return MessageUnanswered("can't send a notification", on="team", why="it answered 500")


def state() -> tuple[MemoryStorage, Documents]:
    """A state that a run has begun."""
    storage = MemoryStorage("memory:state")
    documents = Documents(storage)
    documents.overwrite(INFLIGHT, encode(Inflight()))
    return storage, documents


def recorded(documents: Documents) -> dict[str, tuple[int, int]]:
    data = documents.get(NOTIFIED)
    if data is None:
        return {}
    return {one.name: (one.sent, one.failed) for one in decode(Notified, data, NOTIFIED).channels}


def test_a_channel_that_fails_for_a_while_is_tried_again() -> None:
    team, events = MemoryChannel("team", [unanswered(), unanswered()]), list[Event]()
    told = tell(FACTS, opened(team), NotifySettings(), None, events.append, limit=5)
    assert [one.result for one in told.outcomes] == ["sent"] and len(team.received) == 1
    assert [(one.what, one.why) for one in events if isinstance(one, Retried)] == [
        ("notify team", "it answered 500")
    ] * 2


def test_a_refusal_is_not_tried_again() -> None:
    team = MemoryChannel("team", [MessageError("x", on="team", why="it answered 404", hint="Check it.")])
    told = tell(FACTS, opened(team), NotifySettings(), None, ignore_event)
    assert [(one.result, one.why, one.hint) for one in told.outcomes] == [("failed", "it answered 404", "Check it.")]
    assert team.received == []


def test_a_channel_that_never_answers_delays_the_others_not_at_all_and_the_run_only_until_the_limit() -> None:
    slow, team = SlowChannel(30), MemoryChannel("team")
    _, documents = state()
    begun = time.monotonic()
    told = tell(FACTS, opened(slow, team), NotifySettings(), documents, ignore_event, limit=0.5)
    assert 0.3 < time.monotonic() - begun < 0.7
    assert {one.channel: (one.result, one.why) for one in told.outcomes} == {
        "slow": ("failed", "no answer in time"),
        "team": ("sent", None),
    }
    assert recorded(documents) == {"slow": (0, 1), "team": (1, 0)}


def test_retries_end_with_the_limit() -> None:
    team, events = MemoryChannel("team", [unanswered()] * 50), list[Event]()
    begun = time.monotonic()
    told = tell(FACTS, opened(team), NotifySettings(), None, events.append, limit=0.6)
    assert time.monotonic() - begun < 0.8
    assert [one.result for one in told.outcomes] == ["failed"]
    number = len(events)
    time.sleep(0.5)
    assert len(events) == number, "nobody is told after the end"


class SlowStorage(MemoryStorage):
    """A state that never answers."""

    def get(self, key: str) -> Any:
        threading.Event().wait(30)
        return super().get(key)


def test_a_state_that_never_answers_costs_no_more_than_the_limit() -> None:
    team, events = MemoryChannel("team"), list[Event]()
    begun = time.monotonic()
    told = tell(FACTS, opened(team), NotifySettings(), Documents(SlowStorage("memory:state")), events.append, limit=0.5)
    assert time.monotonic() - begun < 0.7
    assert [one.result for one in told.outcomes] == ["sent"] and told.notified is None
    assert [one.message for one in events if isinstance(one, Warned)] == [
        "the times of earlier notifications can't be read: no answer in time"
    ]


def test_an_interval_holds_a_message_back_until_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    team = MemoryChannel("team")
    _, documents = state()
    for number in (1, 1):
        tell(FACTS, opened(team, interval=3600), NotifySettings(), documents, ignore_event)
        assert len(team.received) == number
    told = tell(FACTS, opened(team, interval=3600), NotifySettings(), documents, ignore_event)
    assert [one.result for one in told.outcomes] == ["held"]

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(hours=2)

    monkeypatch.setattr(job, "datetime", Later)
    tell(FACTS, opened(team, interval=3600), NotifySettings(), documents, ignore_event)
    assert len(team.received) == 2 and recorded(documents) == {"team": (2, 0)}


def test_a_message_that_was_not_sent_is_not_held_back_the_next_time() -> None:
    team = MemoryChannel("team", [MessageError("x", on="team", why="it answered 404")])
    _, documents = state()
    for result in ("failed", "sent"):
        told = tell(FACTS, opened(team, interval=3600), NotifySettings(), documents, ignore_event)
        assert [one.result for one in told.outcomes] == [result]


def test_notifications_begin_no_state() -> None:
    """A run that was refused before it began anything leaves nothing at a place that may be mistyped."""
    storage = MemoryStorage("memory:state")
    team = MemoryChannel("team")
    for _ in range(2):
        tell(FACTS, opened(team, interval=3600), NotifySettings(), Documents(storage), ignore_event)
    assert list(storage.list("")) == [] and len(team.received) == 2


def test_a_damaged_memory_is_left_alone_and_everything_is_told() -> None:
    storage, documents = state()
    documents.overwrite(NOTIFIED, b"[]")
    team, events = MemoryChannel("team"), list[Event]()
    told = tell(FACTS, opened(team, interval=3600), NotifySettings(), documents, events.append)
    assert [one.result for one in told.outcomes] == ["sent"] and storage.get(NOTIFIED).data == b"[]"
    assert any(isinstance(one, Warned) for one in events)


def test_nobody_is_told_what_nobody_wants_to_know() -> None:
    team = MemoryChannel("team")
    channels = [OpenChannel(channel_settings("team", 0, "succeeded"), team)]
    assert tell(FACTS, channels, NotifySettings(), None, ignore_event).outcomes == () and team.received == []


def test_an_error_of_a_channel_that_is_not_ours_shows_only_its_class() -> None:
    class Broken:
        name = "team"

        def send(self, message: Message, timeout: float) -> None:
            raise ValueError("c4n4ry")

    (error,) = send_all([(Broken(), compose_test("team"))], ignore_event, time.monotonic() + 1)
    assert error is not None and error.why == "ValueError" and error.__cause__ is None


def test_a_channel_that_refused_and_then_hangs_gives_the_reason_that_it_gave() -> None:
    class Hanging:
        name = "team"

        def __init__(self) -> None:
            self.tries = 0

        def send(self, message: Message, timeout: float) -> None:
            self.tries += 1
            if self.tries > 1:
                time.sleep(5)
            raise MessageUnanswered(
                "can't notify", on="team", why="the service can't be reached", hint="Check its port."
            )

    (error,) = send_all([(Hanging(), compose_test("team"))], ignore_event, time.monotonic() + 1.5)
    assert error is not None and (error.why, error.hint) == ("the service can't be reached", "Check its port.")
