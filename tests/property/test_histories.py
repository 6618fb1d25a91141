"""Random histories of a service's database on real servers; after every run, every table is held against it.

Hypothesis plays the acts of fix_acts: between runs, and before and after any statement of a run; transactions left open
and prepared across runs, many of them with more subtransactions than shared memory holds; restarts, crashes, lagging
standbys; runs of some tables, and runs that end too early. A table must never be called unchanged if it changed, nor
may a wrong line land (`Judge.require_truth`); and whatever nothing touched has to be proven, not read again
(`Judge.require_proven`), so that proving nothing is no way to pass.

`make soak` goes on and on, on every version there is; SEED=n plays what the soak with that seed played.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from fix_acts import ACTS, CHANGING, EVEN, EXCHANGES, JOURNAL_ACTS, OPEN_ACTS, PAIRS, REWRITING, TWIN_PAIRS, Act
from fix_history import History
from fix_meanwhile import End, Lock, Manner, Meanwhile, Place
from fix_postgres import BINARIES, Cluster
from fix_service import TABLES, TWINS
from fix_summaries import SUMMARIZING
from fix_summaries import VERSIONS as SUMMARIZED

MakeServer = Callable[..., Cluster]
MakeStandby = Callable[[Cluster], Cluster]

# Autovacuum may truncate a table at any moment, and then what "nothing touched" can't be said.
SETTINGS = {"autovacuum": "off", "wal_retrieve_retry_interval": "100ms", "max_standby_streaming_delay": "500ms"}

WHERES = st.one_of(
    st.integers(0, 12).map(lambda k: f"id % 13 = {k}"),
    st.integers(0, 900).map(lambda a: f"id BETWEEN {a} AND {a + 9}"),
    st.sampled_from(("id < 150", "id > 500", "id > 1000", "id BETWEEN 240 AND 480", "id > 0")),
)


TWIN_WHERES = st.integers(0, 12).map(lambda k: f"id % 13 = {k}") | st.sampled_from(("id < 60", "id > 90", "id > 0"))


def acts(
    kinds: Iterable[str], tables: tuple[str, ...] = TABLES, wheres: st.SearchStrategy[str] = WHERES
) -> st.SearchStrategy[Act]:
    return st.builds(Act, st.sampled_from(tuple(kinds)), st.sampled_from(tables), wheres, st.integers(1, 9))


# A twin that is read by another's name differs in values alone, as long as it has as many rows.
CHANGES = acts(CHANGING, TWINS, TWIN_WHERES)
EVERY = acts(ACTS) | acts(EVEN, TWINS, TWIN_WHERES)
ROWS = acts(OPEN_ACTS) | CHANGES

THOUSANDTHS = st.integers(0, 999)
PLACES = st.builds(Place, THOUSANDTHS, st.booleans())
ONE = st.builds(Meanwhile, PLACES, acts(REWRITING) | EVERY | acts(EXCHANGES), st.booleans())


def there_and_back(kinds: tuple[str, str], number: int, gap: int, before: bool, after: bool) -> tuple[Meanwhile, ...]:
    """An act, and what undoes it some statements later."""
    first, second = (Act(kind) for kind in kinds)
    return Meanwhile(Place(number, before), first), Meanwhile(Place(number + gap, after), second)


def pairs(kinds: tuple[tuple[str, str], ...]) -> st.SearchStrategy[tuple[Meanwhile, ...]]:
    gaps = st.integers(0, 60) | st.integers(0, 500)
    return st.builds(there_and_back, st.sampled_from(kinds), THOUSANDTHS, gaps, st.booleans(), st.booleans())


SEVERAL = st.lists(ONE, min_size=1, max_size=3).map(tuple)
MEANWHILE = SEVERAL | pairs(PAIRS) | pairs(TWIN_PAIRS) | st.builds(lambda pair, one: (*pair, one), pairs(PAIRS), ONE)
EXCHANGED = st.lists(pairs(TWIN_PAIRS), min_size=1, max_size=3).map(lambda several: tuple(chain(*several)))
ONLY = st.lists(st.sampled_from((*TABLES, *TWINS)), min_size=1, max_size=3, unique=True).map(tuple)
SOME_TWINS = st.lists(st.sampled_from(TWINS), min_size=2, max_size=4, unique=True).map(tuple)
ENDS = st.builds(End, THOUSANDTHS, st.sampled_from(("dies", "is told to stop", "loses its server")))
MANNERS = {
    "connections": st.sampled_from((1, 4)),
    "serial": st.sampled_from((True, True, False)),
    "audit": st.sampled_from((0.0, 0.0, 20.0, 100.0)),
    "native": st.booleans(),
}
DISTURBED = st.builds(Manner, MEANWHILE, st.just(()) | ONLY, **MANNERS)
PARTIAL = st.builds(Manner, st.just(()), ONLY | SOME_TWINS, **MANNERS)
TWINS_EXCHANGED = st.builds(Manner, EXCHANGED, st.just(()) | SOME_TWINS, **MANNERS)
ENDED = st.builds(Manner, st.just(()) | MEANWHILE, st.just(()) | ONLY, end=ENDS, **MANNERS)
HOWS = st.sampled_from(("COMMIT", "ROLLBACK"))


class Histories(RuleBasedStateMachine):
    """What may happen on a primary."""

    begin: Callable[[], History]
    interruptions: tuple[str, ...] = ("restart", "power", "backend")

    def __init__(self) -> None:
        super().__init__()
        self.history = type(self).begin()

    @initialize(number=st.integers(0, 999))
    def begins(self, number: int) -> None:
        """Hypothesis tries the simplest choices first, which are nothing but plain runs: those do not count."""
        assume(number)

    @rule(act=EVERY)
    def somebody_does(self, act: Act) -> None:
        self.history.act(act)

    @rule(act=ROWS)
    def somebody_writes(self, act: Act) -> None:
        self.history.act(act)

    @rule(act=ROWS)
    def somebody_leaves_open(self, act: Act) -> None:
        self.history.leave_open(act)

    # Where there is none, nothing happens. A precondition would let what is drawn hang on what a server did in time,
    # and Hypothesis calls that flaky.

    @rule(which=st.integers(0, 2), how=HOWS)
    def an_open_one_ends(self, which: int, how: str) -> None:
        self.history.end_open(which, how)

    @rule(act=ROWS)
    def somebody_prepares(self, act: Act) -> None:
        self.history.prepare(act)

    @rule(which=st.integers(0, 2), how=HOWS)
    def a_prepared_one_ends(self, which: int, how: str) -> None:
        self.history.end_prepared(which, how)

    @rule(data=st.data(), really=st.integers(0, 3))
    def the_history_is_interrupted(self, data: st.DataObject, really: int) -> None:
        if not really:
            self.history.interrupt(data.draw(st.sampled_from(self.interruptions)))

    @rule()
    def a_run(self) -> None:
        self.history.run()

    @rule(act=ROWS)
    def somebody_writes_and_it_runs(self, act: Act) -> None:
        self.history.act(act)
        self.history.run()

    @rule(manner=DISTURBED)
    def a_run_with_others_at_work(self, manner: Manner) -> None:
        self.history.run(manner)

    @rule(manner=PARTIAL)
    def a_run_of_some_tables(self, manner: Manner) -> None:
        self.history.run(manner)

    @rule(act=CHANGES, manner=TWINS_EXCHANGED)
    def a_twin_changes_and_a_run_sees_it_exchanged(self, act: Act, manner: Manner) -> None:
        self.history.act(act)
        self.history.run(manner)

    @rule(manner=ENDED, really=st.integers(0, 1))
    def a_run_that_ends_too_early(self, manner: Manner, really: int) -> None:
        if not really:
            self.history.run(manner)

    @rule(table=st.sampled_from((*TABLES, *TWINS)), act=ROWS, how=HOWS, longer=st.integers(0, 3))
    def a_run_while_a_table_is_locked(self, table: str, act: Act, how: str, longer: int) -> None:
        self.history.run_locked(table, act, Lock(how, to_the_end=not longer))

    def teardown(self) -> None:
        try:
            self.history.run()
        finally:
            self.history.close()


JOURNALED = acts(JOURNAL_ACTS) | acts(JOURNAL_ACTS, TWINS, TWIN_WHERES)
ALL_MEANWHILE = st.lists(st.builds(Meanwhile, PLACES, JOURNALED | EVERY, st.booleans()), min_size=1, max_size=3)
JOURNAL_DISTURBED = st.builds(Manner, ALL_MEANWHILE.map(tuple), st.just(()) | ONLY, **MANNERS)


class JournalHistories(Histories):
    """Also what may happen to a journal, and to tables whose writes it does not see."""

    @rule(act=JOURNALED)
    def somebody_works_past_the_journal(self, act: Act) -> None:
        self.history.act(act)

    @rule()
    def ids_go_on(self) -> None:
        self.history.act(Act("ids go on"))

    @rule(act=JOURNALED)
    def somebody_works_past_the_journal_and_it_runs(self, act: Act) -> None:
        self.history.act(act)
        self.history.act(Act("ids go on"))
        self.history.run()

    @rule(act=ROWS)
    def somebody_writes_long_before_it_runs(self, act: Act) -> None:
        self.history.act(act)
        self.history.act(Act("ids go on"))
        self.history.run()

    @rule(act=ROWS)
    def somebody_writes_and_the_journal_is_trimmed(self, act: Act) -> None:
        self.history.act(act)
        for kind in ("ids go on", "trim", "ids go on", "trim"):
            self.history.act(Act(kind))
        self.history.run()

    @rule(manner=JOURNAL_DISTURBED)
    def a_run_with_others_at_the_journal(self, manner: Manner) -> None:
        self.history.run(manner)

    @rule()
    def quiet_nights(self) -> None:
        self.history.quiet_nights()


class SummaryHistories(Histories):
    """Also what may happen to the WAL summaries of a server. Each chunk that they prove is counted as well."""

    @rule()
    def a_checkpoint(self) -> None:
        self.history.summarize("checkpoint")

    @rule(really=st.integers(0, 3))
    def summaries_are_lost(self, really: int) -> None:
        if not really:
            self.history.summarize("removed")

    @rule(act=ROWS)
    def somebody_writes_and_a_checkpoint_comes_before_the_run(self, act: Act) -> None:
        self.history.act(act)
        self.history.summarize("checkpoint")
        self.history.run()

    @rule(act=ROWS, how=HOWS)
    def somebody_stays_open_through_a_checkpoint_and_a_run(self, act: Act, how: str) -> None:
        self.history.leave_open(act)
        self.history.summarize("checkpoint")
        self.history.run()
        self.history.end_open(-1, how)
        self.history.summarize("checkpoint")
        self.history.run()

    @rule(manner=PARTIAL)
    def a_checkpoint_and_a_run_of_some_tables(self, manner: Manner) -> None:
        self.history.summarize("checkpoint")
        self.history.run(manner)

    @rule()
    def unwritten_nights(self) -> None:
        self.history.unwritten_nights()


class StandbyHistories(Histories):
    """What may happen on a primary that is mostly read through a standby, which may lag."""

    interruptions = ("restart", "power", "backend", "standby")

    @rule(manner=DISTURBED | PARTIAL | TWINS_EXCHANGED)
    def a_run_through_the_standby(self, manner: Manner) -> None:
        self.history.run(manner, through_standby=True)

    @rule(manner=ENDED)
    def a_run_through_the_standby_that_ends_too_early(self, manner: Manner) -> None:
        self.history.run(manner, through_standby=True)

    @rule()
    def a_quiet_run_through_the_standby(self) -> None:
        self.history.run(through_standby=True)

    @rule(lagging=st.booleans())
    def the_standby_lags_or_follows(self, lagging: bool) -> None:
        self.history.lag(lagging)

    def teardown(self) -> None:
        self.history.lag(False)
        self.history.run(through_standby=True)
        super().teardown()


class StandbyJournalHistories(JournalHistories, StandbyHistories):
    """The same, mostly read through a standby."""

    @rule()
    def quiet_nights_of_the_standby(self) -> None:
        self.history.quiet_nights(through_standby=True)


def play(
    machine: type[Histories],
    begin: Callable[[], History],
    number: int,
    examples: int,
    steps: int,
    *,
    shrink: bool = False,
) -> None:
    """Play so many histories of so many steps; the same ones for the same number. To shrink one takes minutes."""
    made: Any = seed(number)(type(machine.__name__, (machine,), {"begin": staticmethod(begin)}))
    run_state_machine_as_test(
        made,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
            report_multiple_bugs=False,
            print_blob=False,
        ),
    )


NEEDED = ("had to be proven", "proven chunks", "outcome unchanged: unchanged")


JOURNAL_NEEDED = ("outcome unchanged: journal",)
SUMMARY_NEEDED = ("chunks without a written block",)


def require_strength(told: Counter[str], *, long: bool = False, needed: Iterable[str] = NEEDED) -> None:
    """A play in which nothing was proven proves nothing. A long one must also have read again what was the same, and
    lost snapshots; in a short one the seed may be against it, and other tests bring both about on purpose."""
    print("\n".join(f"{number:8,} {what}" for what, number in sorted(told.items())))
    for what in needed:
        assert told[what], what
    if long:
        assert told["outcome unchanged: identical"]
        assert told["attempts"] > told["runs"], "no snapshot was ever lost"


def play_short(
    kind: type[Histories],
    make: Callable[[Counter[str]], History],
    examples: int,
    steps: int,
    needed: tuple[str, ...] = NEEDED,
) -> None:
    """Play a few histories, and a few more if a seed gave none that proves anything."""
    told = Counter[str]()
    for _ in range(3):
        number = random.SystemRandom().randrange(2**31)
        print(f"seed {number}")
        play(kind, lambda: make(told), number, examples=examples, steps=steps)
        if all(told[what] for what in needed):
            break
    require_strength(told, needed=needed)


@pytest.mark.parametrize("part", [1, 2])
def test_histories(part: int, make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(settings=SETTINGS)
    play_short(Histories, lambda told: History(server, tmp_path, told), examples=8, steps=30)


def test_histories_through_a_standby(make_server: MakeServer, standby: MakeStandby, tmp_path: Path) -> None:
    server = make_server(settings=SETTINGS)
    twin = standby(server)
    play_short(StandbyHistories, lambda told: History(server, tmp_path, told, twin), examples=5, steps=25)


def test_histories_with_the_journal(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(settings=SETTINGS)
    needed = (*NEEDED, *JOURNAL_NEEDED)
    play_short(JournalHistories, lambda told: History(server, tmp_path, told, journal=True), 5, 30, needed)


def test_histories_with_the_journal_through_a_standby(
    make_server: MakeServer, standby: MakeStandby, tmp_path: Path
) -> None:
    server = make_server(settings=SETTINGS)
    twin = standby(server)
    needed = (*NEEDED, *JOURNAL_NEEDED)
    play_short(StandbyJournalHistories, lambda told: History(server, tmp_path, told, twin, journal=True), 3, 25, needed)


def test_histories_with_wal_summaries(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(settings={**SETTINGS, **SUMMARIZING})
    needed = (*NEEDED, *SUMMARY_NEEDED)
    play_short(SummaryHistories, lambda told: History(server, tmp_path, told, summaries=True), 2, 25, needed)


SUMMARY = (
    "runs",
    "attempts",
    "tables",
    "outcome unchanged: unchanged",
    "outcome unchanged: journal",
    "proven chunks",
    "chunks without a written block",
    "had to be proven",
)


MACHINES: dict[tuple[bool, bool], type[Histories]] = {
    (False, False): Histories,
    (True, False): StandbyHistories,
    (False, True): JournalHistories,
    (True, True): StandbyJournalHistories,
}


class Worlds:
    """The servers of a soak, by version, alone or with a standby; made when first asked for."""

    def __init__(self, make_server: MakeServer, make_standby: MakeStandby) -> None:
        self._make_server, self._make_standby = make_server, make_standby
        self._made: dict[tuple[int, bool, bool], tuple[Cluster, Cluster | None]] = {}

    def __call__(self, version: int, with_standby: bool, summaries: bool = False) -> tuple[Cluster, Cluster | None]:
        key = version, with_standby, summaries
        if key not in self._made:
            server = self._make_server(version, settings={**SETTINGS, **(SUMMARIZING if summaries else {})})
            self._made[key] = (server, self._make_standby(server) if with_standby else None)
        return self._made[key]


@pytest.mark.soak
def test_soak(make_server: MakeServer, standby: MakeStandby, tmp_path: Path) -> None:
    """Each seed is two histories of 110 steps, of which up to 80 are runs."""
    worlds, total = Worlds(make_server, standby), Counter[str]()
    end = time.monotonic() + 60 * float(os.environ.get("SOAK_MINUTES", "60"))
    given = os.environ.get("SEED")
    while True:
        number = int(given) if given else random.SystemRandom().randrange(2**31)
        version, with_standby = sorted(BINARIES)[number % len(BINARIES)], number % 3 == 0
        journal = number % 5 < 2
        summaries = version in SUMMARIZED and not journal and not with_standby
        server, twin = worlds(version, with_standby, summaries)
        ways = (" and its standby", with_standby), (" with a journal", journal), (" with WAL summaries", summaries)
        print(f"SEED={number}: PostgreSQL {version}{''.join(way for way, there in ways if there)}", flush=True)
        begin = partial(History, server, tmp_path, total, twin, journal=journal, summaries=summaries)
        machine = SummaryHistories if summaries else MACHINES[with_standby, journal]
        play(machine, begin, number, examples=2, steps=110, shrink=bool(given))
        print({what: total[what] for what in SUMMARY}, flush=True)
        if given or time.monotonic() > end:
            break
    if not given:
        require_strength(total, long=True, needed=(*NEEDED, *JOURNAL_NEEDED, *SUMMARY_NEEDED))
