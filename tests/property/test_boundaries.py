"""Acts of another session before and after every statement of a run; after it, every table is held against an oracle.

No statement is listed by hand: a run in which nobody acts shows on the wire (`fix_wire`) how many there are, and a
`Case` (`fix_boundary`) puts one act (`fix_boundary_acts`) at one of them. The manifest of that run, and of a quiet run
after it, must name just the lines that the oracle (`fix_oracle`) read at the moment of the manifest's snapshot.

`make test` plays a sample; its seed is printed, and SEED=n plays it again. `make soak` plays every case on every
version, on primaries and through standbys (BOUNDARY_SHARE=0.1: a tenth of them). A case is played again by its name:

    python -m pytest -m soak tests/property/test_boundaries.py -k pg18-primary-second-exchange_tables-before-14
"""

from __future__ import annotations

import os
import random
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fix_boundary import KINDS, Case, Place, Stage
from fix_boundary_acts import ACTS
from fix_postgres import BASE, BINARIES, DEFAULT_VERSION, Cluster

MakeStage = Callable[[int, str], Stage]

# Autovacuum would act too. A standby lets the run go on, and replays what it can.
SETTINGS = {
    "autovacuum": "off",
    "max_standby_streaming_delay": "-1",
    "hot_standby_feedback": "on",
    "wal_retrieve_retry_interval": "100ms",
}
SERVERS = ("primary", "standby")

# Cases that once landed wrong data, by a statement that the act comes at: (kind, act, place, statement, how many).
KNOWN: tuple[tuple[str, str, Place, str, int], ...] = (
    ("second", "exchange_tables", "before", 'FROM ONLY "public"', 2),
    ("second", "exchange_schemas", "before", 'FROM ONLY "here"', 1),
    ("first", "exchange_odd_schemas", "around", 'FROM ONLY "near"."odd"', 3),
    ("first", "exchange_partitioned", "around", 'FROM "public"."through"', 1),
    ("first", "view", "around", 'FROM ONLY "public"."one"', 2),
    ("first", "view", "before", 'FROM ONLY "public"."split_a"', 1),
    ("unshared", "exchange_tables", "before", 'FROM ONLY "public"', 2),
)


@pytest.fixture
def told() -> Counter[str]:
    """Count what happened, to show that a test was not idle."""
    return Counter()


@pytest.fixture
def make_stage(
    make_server: Callable[..., Cluster], standby: Callable[[Cluster], Cluster], told: Counter[str]
) -> Iterator[MakeStage]:
    """Make stages, whose landing zones lie where the servers do: `make_stage(18, "standby")`."""
    folder = Path(tempfile.mkdtemp(prefix="floodmark-boundaries-", dir=BASE))
    made: list[Stage] = []

    def make(version: int, server: str) -> Stage:
        primary = make_server(version, settings=SETTINGS)
        made.append(Stage(primary, folder, told, standby(primary) if server == "standby" else None))
        return made[-1]

    yield make
    for stage in made:
        stage.close()
    shutil.rmtree(folder)


def known(stage: Stage) -> list[Case]:
    found = []
    for kind, act, place, statement, most in KNOWN:
        texts = enumerate(stage.statements(kind, act), start=1)
        numbers = [number for number, text in texts if re.search(statement, text)]
        assert numbers, f"no statement of a {kind} run says {statement}"
        found += [stage.case(kind, act, place, number) for number in numbers[:most]]
    return found


def sample(stage: Stage, size: int) -> list[Case]:
    """Some cases of every kind and act, in an order in which databases last long."""
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(2**31))
    print(f"SEED={seed}")
    chance = random.Random(seed)
    pairs = chance.sample([(kind, act) for kind in KINDS for act in ACTS], size)
    cases = [chance.choice(stage.cases(*pair)) for pair in pairs]
    return sorted(cases, key=lambda case: (ACTS[case.act].ready, case.name))


def require_truth(stage: Stage, cases: list[Case]) -> None:
    """Play the cases. Nothing may be wrong after any of them."""
    faults = []
    for case in cases:
        found = stage.play(case)
        print(*found, sep="\n", end="\n" if found else "", flush=True)
        faults += found
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults[:20])


def require_strength(told: Counter[str], *, first: bool = False) -> None:
    """If nobody acted, no snapshot was lost or nothing was proven, the cases prove nothing. `first`: they were all of
    first runs, which have nothing to prove."""
    print("\n".join(f"{number:9,} {what}" for what, number in sorted(told.items())))
    for what in ("snapshots lost", "quiet: unchanged: unchanged", *(() if first else ("acted: unchanged: unchanged",))):
        assert told[what], what
    assert told["acts whose boundary was not reached"] * 20 <= told["cases"]
    assert not idle_acts(told), f"always refused: {idle_acts(told)}"


def idle_acts(told: Counter[str]) -> list[str]:
    """The acts that were played and never allowed: the run held a lock at each of their boundaries."""
    played = {what.partition(":")[0] for what in told if what.partition(":")[0] in ACTS}
    return sorted(act for act in played if not told[f"{act}: done"])


def require_sample(stage: Stage, cases: list[Case], told: Counter[str]) -> None:
    """Play the cases. An act that was always refused is played once more, before the run takes any lock."""
    require_truth(stage, cases)
    idle = {case.act: case.kind for case in cases if case.act in idle_acts(told)}
    require_truth(stage, [stage.case(kind, act, "before", 1) for act, kind in idle.items()])
    require_strength(told)


@pytest.mark.parametrize("part", [1, 2])
def test_a_sample_of_boundaries_on_a_primary(part: int, make_stage: MakeStage, told: Counter[str]) -> None:
    stage = make_stage(DEFAULT_VERSION, "primary")
    require_sample(stage, [*(known(stage) if part == 1 else []), *sample(stage, 20 + 12 * part)], told)


def test_a_sample_of_boundaries_through_a_standby(make_stage: MakeStage, told: Counter[str]) -> None:
    stage = make_stage(DEFAULT_VERSION, "standby")
    require_sample(stage, sample(stage, 30), told)


# Through a standby one connection reads everything anyway.
EVERY_RUN = [
    pytest.param(version, server, kind, id=f"pg{version}-{server}-{kind}")
    for version in sorted(BINARIES)
    for server in SERVERS
    for kind in KINDS
    if (server, kind) != ("standby", "unshared")
]


@pytest.mark.soak
@pytest.mark.parametrize(("version", "server", "kind"), EVERY_RUN)
def test_every_boundary(version: int, server: str, kind: str, make_stage: MakeStage, told: Counter[str]) -> None:
    stage = make_stage(version, server)
    cases = [case for act in ACTS for case in stage.cases(kind, act)]
    share = float(os.environ.get("BOUNDARY_SHARE") or 1)
    chance = random.Random(f"{version} {server} {kind}")
    require_truth(stage, [case for case in cases if chance.random() < share])
    require_strength(told, first=kind in ("first", "resumed"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A case that is named by -k becomes a test."""
    if "case" in metafunc.fixturenames:
        case = Case.named(metafunc.config.getoption("keyword"))
        metafunc.parametrize("case", [case] if case else [], ids=lambda case: case.name)


@pytest.mark.soak
def test_one_case(case: Case, make_stage: MakeStage) -> None:
    require_truth(make_stage(case.version, case.server), [case])
