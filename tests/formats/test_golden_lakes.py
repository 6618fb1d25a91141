"""What release 0.1.0 wrote (`0.1.0/`): this version reads, continues, loads, delivers and verifies it."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import floodmark as library
from fix_command import Floodmark, Landing

GOLDEN = Path(__file__).parent / "0.1.0"
ENTRIES = ["public.empty", "public.gone", "public.person", "public.vault", "public.visit"]


def moved_here(name: str, folder: Path) -> Path:
    """Copy a golden folder, and let its documents name the copy instead of `/golden`, where it was made.

    An SQLite file is known by a digest of its path, so that is another one, too. Head gets its manifest's new digest.
    """
    here = folder / "golden"
    shutil.copytree(GOLDEN / name, here)
    known, found = (hashlib.sha256(path.encode()).hexdigest()[:32] for path in ("/golden/shop.db", f"{here}/shop.db"))
    for path in here.rglob("*.json"):
        path.write_text(path.read_text().replace('"/golden/', f'"{here}/').replace(known, found))
    state = here / "lake/_floodmark"
    head = json.loads((state / "head.json").read_text())
    digest = hashlib.sha256((state / head["manifest"]).read_bytes()).hexdigest()
    (state / "head.json").write_text(json.dumps({**head, "manifest_sha256": digest}))
    return here


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*.parquet")) | set(folder.rglob("*.zst"))


def statuses(report: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["status"] for one in report["tables"]}


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """The lake of a PostgreSQL that is gone: two nights in reach, the second one without a table, and a stopped run."""
    return moved_here("postgres", tmp_path)


@pytest.fixture
def floodmark(golden: Path, tmp_path: Path) -> Floodmark:
    return Floodmark(tmp_path / "job", {"FLOODMARK_DESTINATION": str(golden / "lake")})


def test_every_command_that_looks_reads_it(floodmark: Floodmark) -> None:
    assert floodmark("status", "--output", "json").json["tables"]
    ended = [one["outcome"] for one in floodmark("history", "--output", "json").json["runs"]]
    assert ended == ["stopped", "partial", "success"]
    shown = floodmark("show", "--output", "json").manifest
    assert [one.table.label for one in shown.tables] == ENTRIES and shown.tool_version == "0.1.0"
    assert {one.status for one in shown.tables} == {"extracted", "unchanged", "dropped", "failed"}
    assert "public.person" in floodmark("show", shown.run_id, "public.person").out
    assert floodmark("diff", "--output", "json").json["tables"]
    assert '"person"' in floodmark("schema", "--format", "mojap").out
    verified = floodmark("verify", "--deep", "--output", "json").json
    assert verified["ok"] and verified["manifests"] == 2


def test_its_rows_are_those_of_the_database(floodmark: Floodmark, golden: Path) -> None:
    """`truth.json` has the digests of the lines that PostgreSQL itself gave for them."""
    truth = json.loads((golden / "truth.json").read_text())
    assert len(truth) == 3
    for label, digest in truth.items():
        lines = Landing(golden / "lake").lines(label)
        assert hashlib.sha256(b"".join(sorted(lines))).hexdigest() == digest
        assert floodmark("cat", label).out.encode() == b"".join(lines)


def test_a_cursor_of_it_gives_the_changes_since(floodmark: Floodmark, golden: Path) -> None:
    reader = library.open(str(golden / "lake"))
    changes = reader.latest().changes(reader.cursor("warehouse"))
    assert [one.table.label for one in changes.changed] == ["public.person", "public.visit"]
    assert [one.label for one in changes.gone] == ["public.gone"]
    found = floodmark("changes", "--since", "warehouse", "--output", "jsonl").out.splitlines()
    kinds = [(one["name"], one["op"]) for one in map(json.loads, found[1:])]
    assert kinds == [("gone", "gone"), ("person", "insert"), ("visit", "insert")]


def test_load_and_deliver_continue_what_it_began(floodmark: Floodmark, golden: Path) -> None:
    before = files(golden / "parquet/public.person")
    loaded = floodmark("load", "--into", f"parquet:{golden}/parquet", "--output", "json").json
    still = {"empty": "unchanged", "vault": "unchanged"}
    assert statuses(loaded) == {**still, "gone": "gone", "person": "loaded", "visit": "loaded"}
    assert len(files(golden / "parquet/public.person") - before) == 1, "only one chunk of person changed"
    delivered = floodmark("deliver", "--to", f"{golden}/delivered", "--name", "other", "--output", "json").json
    assert statuses(delivered["deliveries"][0]) == {
        **still,
        "gone": "gone",
        "person": "delivered",
        "visit": "delivered",
    }


def test_prune_cuts_its_history(floodmark: Floodmark) -> None:
    done = floodmark("prune", "--keep-last", "1", "--grace", "0", "--output", "json").json
    assert len(done["kept"]) == len(done["cut"]) == 1
    assert floodmark("verify", "--deep", "--output", "json").json["manifests"] == 1


@pytest.fixture
def shop(tmp_path: Path) -> tuple[Floodmark, Path]:
    """An SQLite file of two nights, as CSV with zstd, and the job that landed it."""
    here = moved_here("sqlite", tmp_path)
    places = {"FLOODMARK_SOURCE": f"sqlite:///{here}/shop.db", "FLOODMARK_DESTINATION": str(here / "lake")}
    job = Floodmark(tmp_path / "job", places)
    job.configure("destination: {format: csv, compression: zstd}\n")
    return job, here


def test_a_run_upon_it_lands_only_what_changed(shop: tuple[Floodmark, Path]) -> None:
    job, here = shop
    before = files(here / "lake/data")
    done = job.run()
    assert set(done.outcomes.values()) == {("unchanged", "identical")}
    assert files(here / "lake/data") == before
    with closing(sqlite3.connect(here / "shop.db")) as database:
        database.execute("UPDATE item SET name = 'stool' WHERE id = 1")
        database.commit()
    changed = {label for label, outcome in job.run().outcomes.items() if outcome[0] == "extracted"}
    assert changed == {"main.item"}
    assert job("verify", "--deep", "--output", "json").json["manifests"] == 4
    assert "stool" in job("cat", "main.item").out
