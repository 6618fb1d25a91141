"""Two runs at once straight into a landing zone: the receiver goes by the timestamps of what it gets, the manifest by
who saw the source last. Where these disagree the receiver has the older rows under the later timestamp, for good,
unless a run sends the table again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fix_runs import Nightly, lines_of
from floodmark.events import Event, RunStarted
from floodmark.pipeline.job import run
from floodmark.pipeline.session import Session

Between = Callable[[], None]


class Zone:
    """A service that lands one table, in two runs at once."""

    def __init__(self, nightly: Nightly, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.nightly = nightly
        self._monkeypatch = monkeypatch
        self.given: dict[str, Any] = {
            "layout": "moj-landing",
            "compression": "none",
            "state_url": str(folder / "state"),
            "connections": 1,
        }
        nightly.database.execute("CREATE TABLE person (id int, name text); INSERT INTO person VALUES (1, 'first')")
        nightly.run(**self.given)

    def rename(self, name: str) -> None:
        self.nightly.database.execute(f"UPDATE person SET name = '{name}'")

    def run(self, between: Between = lambda: None) -> None:
        """A run that something happens to between its snapshot and its timestamp."""
        claim = Session.claim_timestamp

        def claimed(session: Session) -> str:
            self._monkeypatch.setattr(Session, "claim_timestamp", claim)
            between()
            return claim(session)

        self._monkeypatch.setattr(Session, "claim_timestamp", claimed)
        self.nightly.run(**self.given)

    def came(self) -> list[list[bytes]]:
        """What the receiver got of the table, by timestamp."""
        return list(self.nightly.received()["person"].values())

    def truth(self) -> list[bytes]:
        return lines_of(self.nightly.database.dsn, "public.person", self.nightly.entry("public.person"))

    def require_mended(self, came: int, reason: str) -> None:
        """The next run sends the table, since its receiver has something else than what is there; then all is well."""
        assert len(self.came()) == came and self.came()[-1] != self.truth(), "no race took place"
        self.nightly.run(**self.given)
        assert self.nightly.outcome("public.person") == ("extracted", reason)
        assert len(self.came()) == came + 1 and self.came()[-1] == self.truth()
        assert self.nightly.run(**self.given).uploaded_bytes == 0


@pytest.fixture
def zone(nightly: Nightly, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Zone:
    return Zone(nightly, tmp_path, monkeypatch)


def test_the_one_that_saw_less_took_the_later_timestamp(zone: Zone) -> None:
    """It commits last, and the other's entry stays."""
    zone.rename("second")

    def other() -> None:
        zone.rename("third")
        run(zone.nightly.settings(**zone.given))

    zone.run(other)
    assert zone.nightly.outcome("public.person") == ("extracted", "rows_changed")
    zone.require_mended(3, "resend")


@pytest.mark.parametrize(("name", "came", "reason"), [("third", 3, "resend"), ("first", 2, "rows_changed")])
def test_the_one_that_saw_more_took_the_earlier_timestamp(zone: Zone, name: str, came: int, reason: str) -> None:
    """It commits last, and its entry takes the place of the other's; but where it found the table as it was before, it
    names what theirs names no more, and theirs stays."""
    zone.rename("second")
    claimed, go = threading.Event(), threading.Event()

    def wait(event: Event) -> None:
        if isinstance(event, RunStarted):
            claimed.set()
            assert go.wait(60)

    later = threading.Thread(target=lambda: run(zone.nightly.settings(**zone.given), wait))

    def other() -> None:
        zone.rename(name)
        later.start()
        assert claimed.wait(60)

    zone.run(other)
    go.set()
    later.join(60)
    zone.require_mended(came, reason)


def test_where_both_orders_agree_nothing_is_sent_twice(zone: Zone) -> None:
    """The one that saw less has the earlier timestamp, and commits last."""
    zone.rename("second")
    claimed, go = threading.Event(), threading.Event()

    def wait(event: Event) -> None:
        if isinstance(event, RunStarted):
            claimed.set()
            assert go.wait(60)

    earlier = threading.Thread(target=lambda: run(zone.nightly.settings(**zone.given), wait))
    earlier.start()
    assert claimed.wait(60)
    zone.rename("third")
    zone.run()
    go.set()
    earlier.join(60)
    assert len(zone.came()) == 3 and zone.came()[-1] == zone.truth()
    assert zone.nightly.run(**zone.given).uploaded_bytes == 0


def test_runs_without_state_have_timestamps_of_their_own(zone: Zone) -> None:
    """Each of them takes far less than a second. (The first may have that of the run before, which had a state.)"""
    came = []
    for _ in range(4):
        zone.nightly.run(**{**zone.given, "state_url": None})
        came.append(len(zone.came()))
    assert came == list(range(came[0], came[0] + 4))
