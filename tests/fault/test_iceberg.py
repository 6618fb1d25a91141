"""`load` into Iceberg, cut off before any of its writes, and two of them at once: each table stays whole, old or new.

A process that is killed writes and deletes nothing more. So after the cut every further write fails, as does every
deletion by which a load that lives on would clean up.
"""

from __future__ import annotations

import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitStateUnknownException
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO
from sqlalchemy.orm import Session

import floodmark
from fix_iceberg import INTO, NAMESPACE, Warehouse
from fix_load import DAY_2, FIRST, SECOND, Job, unchanged
from floodmark.errors import Stopped
from floodmark.events import ignore_event
from floodmark.load import iceberg, iceberg_catalog
from floodmark.load.iceberg_table import TableChange
from floodmark.load.job import LoadedTable, LoadOptions, load
from floodmark.load.target import LoadWatch
from floodmark.stop import Stop

# All that changes something outside the process: files, and the catalog's database.
WRITES = ((PyArrowFile, "create"), (PyArrowFileIO, "delete"), (Session, "commit"))


class Killed(BaseException):
    """The process is gone."""


class Cut:
    """Lets a number of writes through, and none after them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch, self.seen = monkeypatch, list[str]()

    def load(self, job: Job, allowed: int | None, *arguments: str) -> bool:
        """Whether the load came to its end."""
        self.seen = []

        def guarded(name: str, whole: Callable[..., Any]) -> Callable[..., Any]:
            def call(*given: Any, **named: Any) -> Any:
                if len(self.seen) == allowed:
                    raise Killed
                self.seen.append(name)
                return whole(*given, **named)

            return call

        with self._patch.context() as patch:
            for owner, name in WRITES:
                patch.setattr(owner, name, guarded(name, getattr(owner, name)))
            try:
                job.load(INTO, *arguments)
            except Killed:
                return False
        return True


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse")


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_killed_before_any_write_each_table_is_whole_and_the_next_load_ends_with_the_truth(
    job: Job, warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: bool
) -> None:
    """All writes take a while. So usually it is the writes next to the commits, between which most can go wrong."""
    cut = Cut(monkeypatch)
    job.load(INTO, *warehouse.options)
    old = warehouse.everything()
    job.night(DAY_2)
    saved = tmp_path / "saved"
    shutil.copytree(warehouse.folder, saved)
    assert cut.load(job, None, *warehouse.options, "--drop")
    new, writes = warehouse.everything(), cut.seen
    assert new.keys() - old.keys() == {"fresh"} and old.keys() - new.keys() == {"empty"}
    commits = [at for at, name in enumerate(writes) if name == "commit"]
    assert len(commits) == 4 and len(writes) >= 20
    points = range(len(writes)) if every else sorted({*commits, *(at + 1 for at in commits), 1})
    for allowed in points:
        shutil.rmtree(warehouse.folder)
        shutil.copytree(saved, warehouse.folder)
        assert not cut.load(job, allowed, *warehouse.options, "--drop")
        left = warehouse.everything()
        assert {"audit_log", "big", "person"} <= left.keys()
        for name, rows in left.items():
            assert rows in (old.get(name), new.get(name)), f"{name} is neither old nor new after {allowed} writes"
        if every or allowed in commits[:2]:
            job.load(INTO, *warehouse.options, "--drop")
            assert warehouse.everything() == new, f"after {allowed} writes"


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_killed_between_a_table_and_its_history(
    job: Job, warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: bool
) -> None:
    cut = Cut(monkeypatch)
    options = (*warehouse.options, "--history", "--exclude", "big", "--exclude", "audit.log")
    job.load(INTO, *options)
    old = warehouse.everything()
    job.night(DAY_2)
    saved = tmp_path / "saved"
    shutil.copytree(warehouse.folder, saved)
    assert cut.load(job, None, *options, "--drop")
    new, writes = warehouse.everything(), cut.seen
    assert new.keys() - old.keys() == {"fresh", "fresh_history"} and old.keys() - new.keys() == {"empty"}
    commits = [at for at, name in enumerate(writes) if name == "commit"]
    assert len(commits) == 6, "a table and a history, three times"
    for allowed in range(len(writes)) if every else (commits[1], commits[5]):
        shutil.rmtree(warehouse.folder)
        shutil.copytree(saved, warehouse.folder)
        assert not cut.load(job, allowed, *options, "--drop")
        left = warehouse.everything()
        assert all(rows in (old.get(name), new.get(name)) for name, rows in left.items()), f"after {allowed} writes"
        job.load(INTO, *options, "--drop")
        assert warehouse.everything() == new, f"after {allowed} writes"


@pytest.mark.parametrize("point", ["iceberg_files.FileWriter.write", "iceberg_table.TableChange.commit"])
def test_kill_9(job: Job, warehouse: Warehouse, point: str) -> None:
    program = f"""
import os, signal
from floodmark.cli.main import main
from floodmark.load import iceberg_files, iceberg_table
owner, name = {point.rpartition(".")[0]}, {point.rpartition(".")[2]!r}
whole = getattr(owner, name)
def cut(*arguments, **named):
    whole(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(owner, name, cut)
main()
"""
    done = job.process(program, "load", "--into", INTO, *warehouse.options)
    assert done.returncode == -signal.SIGKILL, done.stderr
    first = {"audit.log": "unchanged"} if point.endswith("commit") else {}
    assert job.load(INTO, *warehouse.options) == {**FIRST, **first}
    assert len(warehouse.rows("big")) == 1500 and warehouse.rows("audit_log") == [("[1,2]",)]


def test_of_two_loads_at_once_one_is_whole_and_the_other_says_so(
    job: Job, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.load(INTO, *warehouse.options)
    job.night(DAY_2)
    whole = iceberg.IcebergNamespace.publish

    def late(*arguments: Any) -> Any:
        monkeypatch.setattr(iceberg.IcebergNamespace, "publish", whole)
        assert job.load(INTO, *warehouse.options) == SECOND
        return whole(*arguments)

    monkeypatch.setattr(iceberg.IcebergNamespace, "publish", late)
    said = job.refused(INTO, *warehouse.options, code=11)
    assert "another writer, such as another load, changed it meanwhile" in said
    assert len(warehouse.rows("big")) == 1501 and len(warehouse.rows("fresh")) == 1
    data = {str(path) for name in warehouse.names() for path in (warehouse.folder / "cases" / name).rglob("*.parquet")}
    named = {
        task.file.file_path
        for name in warehouse.names()
        for snapshot in warehouse.table(name).snapshots()
        for task in warehouse.table(name).scan(snapshot_id=snapshot.snapshot_id).plan_files()
    }
    assert data == named, "the loser deleted its own files, and no other"
    assert job.load(INTO, *warehouse.options) == unchanged(SECOND)


def test_a_load_of_the_same_rows_does_not_overwrite_a_later_one(
    job: Job, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that changes no file has the same requirement as one that does."""
    job.night("CREATE TABLE small (a smallint); INSERT INTO small VALUES (1)")
    job.load(INTO, *warehouse.options)
    job.night("ALTER TABLE small ALTER a TYPE int")  # Iceberg has one type for both
    whole = TableChange.commit

    def late(*arguments: Any) -> None:
        monkeypatch.setattr(TableChange, "commit", whole)
        job.night("INSERT INTO small VALUES (2)")
        job.load(INTO, *warehouse.options)
        whole(*arguments)

    monkeypatch.setattr(TableChange, "commit", late)
    job.refused(INTO, *warehouse.options, code=11)
    assert job.load(INTO, *warehouse.options) == {**unchanged(FIRST), "public.small": "unchanged"}
    assert len(warehouse.rows("small")) == 2 and len(warehouse.table("small").snapshots()) == 2


def test_a_load_that_is_told_to_stop_deletes_what_it_staged(job: Job, warehouse: Warehouse) -> None:
    job.load(INTO, *warehouse.options)
    files, rows = set(warehouse.folder.rglob("*.parquet")), warehouse.everything()
    job.night(DAY_2)
    stop, begun = Stop(), list[set[Path]]()
    target = iceberg.IcebergNamespace(
        NAMESPACE, ignore_event, catalog=f"sqlite:///{warehouse.file}", warehouse=warehouse.place
    )

    def tell(one: LoadedTable) -> None:
        begun.append(set(warehouse.folder.rglob("*.parquet")) - files)
        stop.ask(signal.SIGTERM)

    with pytest.raises(Stopped) as stopped:
        lake = floodmark.open(str(job.landing)).latest()
        load(lake, target, LoadOptions(drop=True), tell, LoadWatch(ignore_event, stop))
    target.close()
    assert stopped.value.code == 143 and len(begun) == 1 and begun[0], "it had begun"
    assert set(warehouse.folder.rglob("*.parquet")) == files and warehouse.everything() == rows


@pytest.mark.parametrize("landed", [True, False])
def test_a_lost_answer_of_the_catalog(
    job: Job, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, landed: bool
) -> None:
    whole = SqlCatalog.commit_table

    def lost(*arguments: Any) -> Any:
        monkeypatch.setattr(SqlCatalog, "commit_table", whole)
        if landed:
            whole(*arguments)
        raise CommitStateUnknownException("CANARY")

    monkeypatch.setattr(SqlCatalog, "commit_table", lost)
    if landed:
        assert job.load(INTO, *warehouse.options) == FIRST
    else:
        said = job.refused(INTO, *warehouse.options, code=13)
        assert "gave no usable answer" in said and "CANARY" not in said
        assert job.load(INTO, *warehouse.options) == FIRST
    assert len(warehouse.rows("big")) == 1500


def test_a_commit_that_lands_after_its_answer_was_lost_has_all_its_files(
    job: Job, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway gives up, and the catalog goes on."""
    job.load(INTO, *warehouse.options)
    job.night("INSERT INTO big VALUES (0, 'new')")
    whole, late = SqlCatalog.commit_table, []

    def lost(*arguments: Any) -> Any:
        late.append(arguments)
        raise CommitStateUnknownException("504")

    with monkeypatch.context() as patch:
        patch.setattr(SqlCatalog, "commit_table", lost)
        assert "gave no usable answer" in job.refused(INTO, *warehouse.options, code=13)
    assert len(warehouse.rows("big")) == 1500
    whole(*late[0])
    assert len(warehouse.rows("big")) == 1501


@pytest.mark.parametrize("first", ["TOKEN", "CREDENTIAL"])
def test_a_catalog_that_accepts_a_request_and_never_answers(
    job: Job, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    monkeypatch.setenv(f"PYICEBERG_CATALOG__DEFAULT__{first}", "id:CANARY")
    monkeypatch.setattr(iceberg_catalog, "_PATIENCE", (0.2, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("PYICEBERG_CATALOG__DEFAULT__OAUTH2_SERVER_URI", f"{address}/token")
        said = job.refused(INTO, "--catalog", address, code=13)
    assert f"{address}: it gave no usable answer (ReadTimeout)" in said and "CANARY" not in said


def test_a_catalog_and_a_warehouse_that_can_t_be_written(
    job: Job, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.load(INTO, *warehouse.options)
    old = warehouse.everything()
    job.night(DAY_2)
    monkeypatch.setenv("PYICEBERG_CATALOG__DEFAULT__URI", f"sqlite:///file:{warehouse.file}?mode=ro&uri=true")
    said = job.refused(INTO, code=13)
    assert "can't publish the table: cases." in said and "the catalog's database can't be written" in said
    assert warehouse.everything() == old
    (warehouse.folder / "cases/big/data").rename(warehouse.folder / "cases/big/hidden")
    (warehouse.folder / "cases/big/data").write_text("a file in the way of the folder")
    statuses = job.load(INTO, *warehouse.options, code=13)
    assert statuses == {**SECOND, "public.big": "failed"}
