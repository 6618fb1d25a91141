"""A server that is newer than the tested ones. No such server exists here: a proxy gives one another version.

The proxy changes what the server says about its version, and, to the names of the test's choice, what the client asks
for. All else is the server's own: it is PostgreSQL itself that does not know a setting or a catalog's column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from fix_command import Floodmark
from fix_runs import Nightly
from fix_wire import Session, Wire
from floodmark.config import Limits
from floodmark.errors import SourceError
from floodmark.events import Event, RunStarted, Warned
from floodmark.source.postgres.connect import settings_to_pin
from floodmark.source.postgres.statements import PLANNING
from floodmark.source.postgres.versions import _SAFE_WITHOUT, TESTED_UP_TO

NEXT = TESTED_UP_TO + 1
FILL = "CREATE TABLE person AS SELECT i AS id, 'name ' || i AS name FROM generate_series(1, 500) i"
Newer = Callable[..., str]


@pytest.fixture
def newer(nightly: Nightly) -> Iterator[Newer]:
    """Give the URL of a server that reports the next version, where the words of `lost` do not exist."""
    nightly.database.execute(FILL)
    made: list[Wire] = []

    def make(lost: Mapping[str, str] | None = None) -> str:
        def edit(_session: Session, text: str) -> str:
            text = text.replace("current_setting('server_version')", f"'{NEXT}.0'")
            text = text.replace("current_setting('server_version_num')", f"'{NEXT}0000'")
            for word, other in (lost or {}).items():
                text = text.replace(word, other)
            return text

        reported = {"server_version": f"{NEXT}.0"}
        made.append(Wire(lambda: nightly.database.server.port, edit=edit, reported=reported))
        return made[-1].url_of(nightly.database)

    yield make
    for wire in made:
        wire.close()


def warnings(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, Warned)]


def test_a_newer_server_works_and_a_run_says_so_once(nightly: Nightly, newer: Newer) -> None:
    url = newer()
    times = iter(range(2))

    def rewrite(event: Event) -> None:
        if isinstance(event, RunStarted) and next(times, None) is not None:
            nightly.database.execute("TRUNCATE person; INSERT INTO person VALUES (1, 'one')")

    nightly.run_observed(rewrite, url=url)
    nightly.require_truth()
    started = [event for event in nightly.events if isinstance(event, RunStarted)]
    assert len(started) == 3 and {event.encoder for event in started} == {"server"}
    (said,) = warnings(nightly.events)
    assert f"the server is PostgreSQL {NEXT}" in said and f"up to {TESTED_UP_TO}" in said
    assert nightly.last is not None and nightly.last.source.server_version == f"{NEXT}.0"
    nightly.run(url=url)
    assert nightly.outcome("public.person") == ("unchanged", "unchanged")


def test_a_tested_server_gets_no_warning(nightly_any: Nightly) -> None:
    nightly_any.database.execute(FILL)
    nightly_any.run()
    expected = [] if nightly_any.database.version <= TESTED_UP_TO else [f"the server is PostgreSQL {NEXT}"]
    assert [message[: len("the server is PostgreSQL 19")] for message in warnings(nightly_any.events)] == expected


def test_plan_and_doctor_say_so(nightly: Nightly, newer: Newer, tmp_path: Path) -> None:
    job = Floodmark(tmp_path / "job", {"FLOODMARK_SOURCE": newer(), "FLOODMARK_DESTINATION": str(tmp_path / "landing")})
    assert job("plan").err.count(f"the server is PostgreSQL {NEXT}") == 1
    checks = {one["check"]: one for one in job("doctor", "--output", "json").json["checks"]}
    assert checks["version"]["result"] == "warning" and "CHANGELOG.md" in checks["version"]["fix"]
    assert checks["snapshot"]["result"] == "ok"


@pytest.mark.parametrize("name", sorted({*_SAFE_WITHOUT, "effective_io_concurrency"}))
def test_a_setting_that_nothing_depends_on_can_be_gone(nightly: Nightly, newer: Newer, name: str) -> None:
    url = newer({name: f"{name}_gone"})
    nightly.run(url=url)
    nightly.require_truth()
    nightly.run(url=url)
    assert nightly.outcome("public.person") == ("unchanged", "unchanged")
    assert not any("can't share the snapshot" in message for message in warnings(nightly.events))


@pytest.mark.parametrize("name", sorted({*settings_to_pin(Limits(), 180000), *PLANNING} - _SAFE_WITHOUT))
def test_a_setting_that_shapes_what_is_read_must_be_known(nightly: Nightly, newer: Newer, name: str) -> None:
    with pytest.raises(SourceError) as caught:
        nightly.run(url=newer({name: f"{name}_gone"}))
    assert f"PostgreSQL {NEXT} does not know the setting {name}," in str(caught.value)
    assert not list(nightly.folder.rglob("*.gz"))


@pytest.mark.parametrize("lost", ["pg_stat_bgwriter", "pg_stat_wal", "relispartition"])
def test_a_catalog_that_lacks_something_is_named_as_that(nightly: Nightly, newer: Newer, lost: str) -> None:
    with pytest.raises(SourceError, match=f"PostgreSQL {NEXT} lacks something that Floodmark reads .SQLSTATE 42"):
        nightly.run(url=newer({lost: f"{lost}_gone"}))


def test_damaged_pages_can_not_be_hidden_by_a_setting_that_is_gone(nightly: Nightly, newer: Newer) -> None:
    nightly.run(url=newer({"zero_damaged_pages": "zero_damaged_pages_gone"}))
    nightly.require_truth()
