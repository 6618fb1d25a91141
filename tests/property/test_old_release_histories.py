"""Random histories in which release 0.1.0 and this version take turns with one state: upgrades and downgrades.

After every run, of either version, each table is held against the oracle of test_histories. So a table is never called
unchanged because the other version left out, or did not understand, what this one had written.
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
from test_histories import (
    SETTINGS,
    Histories,
    JournalHistories,
    SummaryHistories,
    play,
    play_short,
    require_strength,
)

from fix_command import Floodmark
from fix_history import History
from fix_meanwhile import PLAIN, Manner, Watched
from fix_old_release import OldRelease, require_old_release
from fix_postgres import Cluster
from fix_service import RULES
from fix_summaries import SUMMARIZING
from fix_wire import Wire

_FILE = "chunk_size: 64KiB\naudit: {chunks_per_run: 0}\ntables: {rules: {public.doc: {where: n < 3}}}\n"


class TurnsHistory(History):
    """A history in which every second quiet run is one of 0.1.0. That release need not prove what this one does."""

    def __init__(self, primary: Cluster, folder: Path, told: Counter[str], **named: Any) -> None:
        super().__init__(primary, folder, told, **named)
        assert RULES.keys() == {"public.doc"} and RULES["public.doc"].where == "n < 3"
        self._old = OldRelease(Floodmark(folder / f"{self.database.name}-job", {}))
        self._old.configure(_FILE)
        self._turn = False

    def run(self, manner: Manner = PLAIN, **named: Any) -> None:
        """Run this version or, every second time that nothing is special about a run, release 0.1.0.

        That release need not prove what this one read, nor this one what that release read.
        """
        self._turn = manner == PLAIN and not named and bool(next(self.numbers) % 2)
        if self._turn:
            self.judge.interrupt()
        super().run(manner, **named)

    def _run(self, watched: Watched, selected: tuple[str, ...]) -> None:
        if not self._turn:
            super()._run(watched, selected)
            return
        with Wire(lambda: watched.source.server.port) as wire:
            wire.before, wire.after = watched.before, watched.after
            places = {"FLOODMARK_SOURCE": wire.url_of(watched.source), "S3_DESTINATION": str(self.job.folder)}
            self.job.last = self._old.run(environment=places).manifest
            wire.check()
        watched.attempts = 1
        self.told["runs of 0.1.0"] += 1


NEEDED = ("runs of 0.1.0", "outcome unchanged: unchanged", "proven chunks")
MACHINES: dict[str, tuple[type[Histories], dict[str, bool]]] = {
    "plain": (Histories, {}),
    "journal": (JournalHistories, {"journal": True}),
    "summaries": (SummaryHistories, {"summaries": True}),
}


def server_for(kind: str, make_server: Callable[..., Cluster]) -> Cluster:
    return make_server(settings={**SETTINGS, **(SUMMARIZING if kind == "summaries" else {})})


@pytest.mark.parametrize("kind", ["journal", "summaries"])
def test_versions_take_turns(kind: str, make_server: Callable[..., Cluster], tmp_path: Path) -> None:
    require_old_release()
    machine, ways = MACHINES[kind]
    server = server_for(kind, make_server)
    play_short(machine, lambda told: TurnsHistory(server, tmp_path, told, **ways), 1, 25, NEEDED)


@pytest.mark.soak
def test_versions_take_turns_for_long(make_server: Callable[..., Cluster], tmp_path: Path) -> None:
    require_old_release()
    end = time.monotonic() + 60 * float(os.environ.get("SOAK_MINUTES", "60"))
    servers = {kind: server_for(kind, make_server) for kind in MACHINES}
    told = Counter[str]()
    while time.monotonic() < end:
        for kind, (machine, ways) in MACHINES.items():
            number = random.SystemRandom().randrange(2**31)
            print(f"seed {number}: {kind}", flush=True)
            play(machine, partial(TurnsHistory, servers[kind], tmp_path, told, **ways), number, 2, 60)
    require_strength(told, needed=NEEDED)
