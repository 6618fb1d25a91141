"""Random histories in which tables cross the limits of the chunk size all the time, and runs with `--full` cut again.

The limits are a few blocks. Before any run, the configured size can change, and growth can be switched off by a
delivery. Runs with `--full` also die or are stopped, so that two cuts of one file are remembered side by side. After
every run each table is held against the oracle of test_histories.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule
from test_histories import (
    ENDED,
    MANNERS,
    MEANWHILE,
    NEEDED,
    ONLY,
    ROWS,
    SETTINGS,
    Histories,
    SummaryHistories,
    play,
    play_short,
    require_strength,
)

from fix_acts import Act
from fix_history import History
from fix_meanwhile import PLAIN, Manner, Watched
from fix_postgres import Cluster, PgDatabase
from fix_runs import Nightly
from fix_service import SERVICE
from fix_summaries import SUMMARIZING
from floodmark.config import Settings
from floodmark.config.settings import DeliverySettings
from floodmark.events import ChunkDone, Event, TableDecided
from floodmark.pipeline import chunks, detect, resume
from floodmark.pipeline.job import run
from floodmark.pipeline.remembered import Remembered
from floodmark.state.manifest import Manifest

BLOCK = 8192
LIMITS = ((24 * BLOCK, 8), (12 * BLOCK, 4), (6 * BLOCK, 2))
SIZES = (BLOCK, 2 * BLOCK, 3 * BLOCK, 8 * BLOCK)
FULL = st.builds(Manner, st.just(()) | MEANWHILE, st.just(()) | ONLY, full=st.just(True), **MANNERS)


def full(manner: Manner) -> Manner:
    return Manner(**{name: getattr(manner, name) for name in Manner.__struct_fields__ if name != "full"}, full=True)


class GrowingNightly(Nightly):
    """A nightly job whose chunk size and deliveries change."""

    chunk_bytes, grows = SIZES[0], True

    def settings(self, **changes: Any) -> Settings:
        other = () if self.grows else (DeliverySettings("s3://elsewhere", compression="none"),)
        return super().settings(chunk_bytes=self.chunk_bytes, deliver=other, **changes)


class GrowingHistory(History):
    """A history whose job has other settings from time to time."""

    def __init__(self, primary: Cluster, folder: Path, told: Counter[str], **named: Any) -> None:
        super().__init__(primary, folder, told, **named)
        self.nightly = GrowingNightly(self.database, folder / self.database.name)
        self.job = self.judge._job = self.nightly

    def run(self, manner: Manner = PLAIN, **named: Any) -> None:
        """Run. A full run puts new objects, and the next run takes over those of one that died: it need not prove."""
        super().run(manner, **named)
        if manner.full:
            self.judge.interrupt()

    def _run(self, watched: Watched, selected: tuple[str, ...]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(detect, "remembered_cuts", self._counted_cuts)
            super()._run(watched, selected)

    def _counted_cuts(self, remembered: Remembered) -> dict[str, dict[int, chunks.FileCut]]:
        sizes: dict[int, set[int]] = {}
        for place, known in remembered.chunks.items():
            if place.stop is not None:
                sizes.setdefault(known.mark.relfilenode, set()).add(place.stop - place.start)
        self.told["files with one cut"] += sum(len(one) == 1 for one in sizes.values())
        self.told["files with several cuts"] += sum(len(one) > 1 for one in sizes.values())
        return chunks.remembered_cuts(remembered)

    def configure(self, chunk_bytes: int, grows: bool) -> None:
        self.nightly.chunk_bytes, self.nightly.grows = chunk_bytes, grows


class GrowingHistories(Histories):
    """Also what changes the size of new chunks."""

    history: GrowingHistory

    @rule(size=st.sampled_from(SIZES), grows=st.booleans())
    def the_settings_change(self, size: int, grows: bool) -> None:
        self.history.configure(size, grows)

    @rule(manner=FULL)
    def a_full_run(self, manner: Manner) -> None:
        self.history.run(manner)

    @rule(size=st.sampled_from(SIZES), manner=ENDED, act=ROWS, only=st.booleans())
    def a_full_run_ends_too_early_and_others_follow(self, size: int, manner: Manner, act: Act, only: bool) -> None:
        before = self.history.nightly.chunk_bytes
        self.history.configure(size, True)
        self.history.run(full(manner))
        self.history.configure(before, True)
        if only:
            self.history.run(Manner(only=manner.only))
        self.history.act(act)
        self.history.run()


class GrowingSummaryHistories(GrowingHistories, SummaryHistories):
    """The same, on a server that keeps WAL summaries."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "GROWTH", LIMITS)
    monkeypatch.setattr(chunks, "MIN_CHUNK_BLOCKS", 1)
    monkeypatch.setattr(chunks, "MOST_GROWN", 32 * BLOCK)
    monkeypatch.setattr(resume, "CHUNKS_OF_A_PART", 3)
    monkeypatch.setattr(resume, "SHORTEST_PAUSE", 0.0)
    monkeypatch.setattr(resume, "PAUSE_PER_WRITE", 0)
    monkeypatch.setattr(resume, "SHARE_TO_LOSE", 0)


@pytest.mark.parametrize("outer_full", [True, False])
def test_two_runs_at_once_with_different_cuts(outer_full: bool, pg: PgDatabase, tmp_path: Path) -> None:
    """One of them has `--full` and another chunk size, and some tables change between their snapshots."""
    pg.execute(SERVICE)
    job = GrowingNightly(pg, tmp_path)
    job.run()
    begun, done = list[Event](), list[Manifest]()

    def another_runs(event: Event) -> None:
        if isinstance(event, ChunkDone | TableDecided) and not begun:
            begun.append(event)
            pg.execute("UPDATE event SET n = n + 1 WHERE id < 100; DELETE FROM visit WHERE id % 3 = 0")
            done.append(run(job.settings(**({} if outer_full else other))).manifest)

    other = {"full": True}
    job.chunk_bytes = SIZES[-1]
    last = job.run_observed(another_runs, **(other if outer_full else {})).manifest
    assert last.parent is not None and done[0].run_id in last.parent
    job.require_truth()
    job.chunk_bytes = SIZES[0]
    pg.execute("DELETE FROM event WHERE id > 600; INSERT INTO visit SELECT i, 0, 'x' FROM generate_series(1, 90) i")
    pg.execute("VACUUM event")
    for only in (("public.event",), ()):
        job.run(only=only)
        job.require_truth(*only)


def server_for(make_server: Callable[..., Cluster], summaries: bool) -> Cluster:
    return make_server(settings={**SETTINGS, **(SUMMARIZING if summaries else {})})


MACHINES = {False: GrowingHistories, True: GrowingSummaryHistories}


@pytest.mark.parametrize("summaries", [False, True], ids=["counted", "summaries"])
def test_tables_cross_the_limits_of_the_chunk_size(
    summaries: bool, make_server: Callable[..., Cluster], tmp_path: Path
) -> None:
    server = server_for(make_server, summaries)
    play_short(MACHINES[summaries], lambda told: GrowingHistory(server, tmp_path, told, summaries=summaries), 2, 20)


@pytest.mark.soak
def test_tables_cross_the_limits_for_long(make_server: Callable[..., Cluster], tmp_path: Path) -> None:
    end, told = time.monotonic() + 60 * float(os.environ.get("SOAK_MINUTES", "60")), Counter[str]()
    servers = {summaries: server_for(make_server, summaries) for summaries in MACHINES}
    while time.monotonic() < end:
        for summaries, machine in MACHINES.items():
            number = random.SystemRandom().randrange(2**31)
            print(f"seed {number}: {machine.__name__}", flush=True)
            begin = partial(GrowingHistory, servers[summaries], tmp_path, told, summaries=summaries)
            play(machine, begin, number, 2, 80)
    require_strength(told, needed=(*NEEDED, "files with several cuts"))
