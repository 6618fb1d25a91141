"""Durable documents: what a release once wrote is read for ever, and what is unknown is refused and left alone."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from msgspec import Struct

from fix_state import commit, put, quick_ledger, run
from floodmark.config import Flags, load
from floodmark.errors import StateUnreadable
from floodmark.pipeline.job import run as whole_run
from floodmark.state import manifest as documents
from floodmark.state.manifest import Manifest, decode, encode
from floodmark.storage.memory import MemoryStorage

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("*.json"))
KINDS: dict[str, type[Any]] = {name.removeprefix("floodmark."): kind for kind, name in documents._FORMATS.items()}


def kind_of(file: Path) -> tuple[type[Any], int]:
    name, version = file.stem.split("-")[:2]
    return KINDS[name], int(version)


def changed(data: bytes, **fields: object) -> bytes:
    return json.dumps({**json.loads(data), **fields}).encode()


def with_strangers(node: Any) -> Any:
    """The same document with a field no one knows in every object."""
    if isinstance(node, dict):
        return {"from_the_future": [1, {"x": None}], **{name: with_strangers(value) for name, value in node.items()}}
    return [with_strangers(one) for one in node] if isinstance(node, list) else node


def test_every_format_has_a_golden_file_of_every_version() -> None:
    found = {kind_of(file) for file in FILES}
    assert found == {(kind, number) for kind in KINDS.values() for number in range(1, documents._newest(kind) + 1)}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_golden_file_is_read_and_written_again_byte_for_byte(file: Path) -> None:
    kind, version = kind_of(file)
    data = file.read_bytes()
    document = decode(kind, data, file.name)
    if version == documents._newest(kind):
        assert encode(document) == data
    assert decode(kind, encode(document), file.name) == document


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_fields_no_one_knows_are_ignored(file: Path) -> None:
    kind, _ = kind_of(file)
    data = file.read_bytes()
    strange = json.dumps(with_strangers(json.loads(data))).encode()
    assert decode(kind, strange, file.name) == decode(kind, data, file.name)


@pytest.mark.parametrize("kind", KINDS)
def test_golden_files_show_every_field_with_a_value(kind: str) -> None:
    """Else a field could change its meaning without a file to notice it."""
    newest = documents._newest(KINDS[kind])
    texts = [json.loads(file.read_bytes()) for file in FILES if kind_of(file) == (KINDS[kind], newest)]
    seen: dict[str, bool] = {}

    def look(node: Any, path: str) -> None:
        if isinstance(node, list):
            for one in node:
                look(one, path)
        elif isinstance(node, dict):
            for name, value in node.items():
                seen[f"{path}.{name}"] = seen.get(f"{path}.{name}", False) or value not in (None, [])
                look(value, f"{path}.{name}")

    for text in texts:
        look(text, "")
    assert [path for path, has_value in seen.items() if not has_value] == []


STRANGE: dict[str, dict[str, object]] = {
    "newer": {"version": 99},
    "older than the first": {"version": 0},
    "a version in words": {"version": "1"},
    "a version that is true": {"version": True},
    "no version": {"version": None},
    "another format": {"format": "someone.else"},
}


@pytest.mark.parametrize("change", STRANGE.values(), ids=list(STRANGE))
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_is_unknown_is_refused_and_the_error_says_where_and_what(file: Path, change: dict[str, object]) -> None:
    kind, _ = kind_of(file)
    with pytest.raises(StateUnreadable) as refusal:
        decode(kind, changed(file.read_bytes(), **change), "s3://state/it.json")
    error = refusal.value
    assert error.on == "s3://state/it.json" and "Nothing was written over it" in (error.hint or "")
    if "format" in change:
        assert f"not a {documents._FORMATS[kind]} document" in (error.why or "")
    else:
        assert f"version {change['version']!r} is not known" in (error.why or "") and "it reads 1" in (error.why or "")


@pytest.mark.parametrize("key", ["head.json", "inflight.json", "manifests/r1.json"])
def test_a_ledger_writes_nothing_over_a_newer_document(key: str) -> None:
    store = MemoryStorage("memory:state")
    ledger = quick_ledger(store)
    current = commit(ledger, "r1")
    put(store, "inflight.json", (FOLDER / "inflight-1.json").read_bytes())
    put(store, key, changed(store.get(key).data, version=2))
    before = {one: store.get(one).data for one in store.list("")}
    with pytest.raises(StateUnreadable):
        ledger.current()
        ledger.claim("r2", datetime(2026, 11, 23, 2, 0, tzinfo=UTC))
    if key != "inflight.json":
        with pytest.raises(StateUnreadable):
            ledger.commit(run("r2", 2), None)  # as of a time before there was a head
    after = {one: store.get(one).data for one in store.list("") if one != "manifests/r2.json"}
    assert current.head.run_id == "r1" and after == before


@pytest.mark.parametrize("key", ["head.json", "inflight.json"])
def test_a_run_leaves_a_state_of_a_newer_version_as_it_is(tmp_path: Path, key: str) -> None:
    with sqlite3.connect(tmp_path / "a.db") as database:
        database.executescript("CREATE TABLE t (a); INSERT INTO t VALUES (1)")
    database.close()
    landing = tmp_path / "landing"
    settings = load(Flags(destination=str(landing)), {"FLOODMARK_SOURCE": f"sqlite:///{tmp_path}/a.db"})
    whole_run(settings)
    document = landing / "_floodmark" / key
    document.write_bytes(changed(document.read_bytes(), version=2))
    before = {path: path.read_bytes() for path in landing.rglob("*") if path.is_file()}
    with pytest.raises(StateUnreadable, match="version 2 is not known") as refusal:
        whole_run(settings)
    assert refusal.value.exit_code == 13
    assert {path: path.read_bytes() for path in landing.rglob("*") if path.is_file()} == before


class Toy(Struct, frozen=True, kw_only=True):
    """A made-up document in its third version."""

    format: Literal["floodmark.toy"] = "floodmark.toy"
    version: Literal[3] = 3
    whole_name: str
    tags: tuple[str, ...]


def joined(raw: dict[str, Any]) -> dict[str, Any]:
    """1 → 2: two fields become one."""
    rest = {name: value for name, value in raw.items() if name not in ("first", "last")}
    return {**rest, "version": 2, "whole_name": f"{raw['first']} {raw['last']}"}


def tagged(raw: dict[str, Any]) -> dict[str, Any]:
    """2 → 3: one tag becomes many."""
    return {**raw, "version": 3, "tags": [raw["tag"]]}


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(documents._FORMATS, Toy, "floodmark.toy")
    monkeypatch.setitem(documents._UPGRADES, ("floodmark.toy", 1), joined)
    monkeypatch.setitem(documents._UPGRADES, ("floodmark.toy", 2), tagged)


def toy(**fields: object) -> bytes:
    return json.dumps({"format": "floodmark.toy", **fields}).encode()


@pytest.mark.usefixtures("toys")
def test_older_versions_are_upgraded_step_by_step_when_they_are_read() -> None:
    newest = Toy(whole_name="Ada Lovelace", tags=("a",))
    first = toy(version=1, first="Ada", last="Lovelace", tag="a")
    second = toy(version=2, whole_name="Ada Lovelace", tag="a")
    assert decode(Toy, first, "x") == decode(Toy, second, "x") == decode(Toy, encode(newest), "x") == newest


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize(
    ("document", "why"),
    [
        (toy(version=4, whole_name="A", tags=[]), "version 4 is not known to this Floodmark (it reads 1 to 3)"),
        (toy(version=1, first="Ada", tag="a"), "damaged: it can't be read as version 1 (KeyError)"),
        (toy(version=3, whole_name=1, tags=[]), "Expected `str`, got `int` - at `$.whole_name`"),
    ],
)
def test_what_can_not_be_upgraded_is_refused_too(document: bytes, why: str) -> None:
    with pytest.raises(StateUnreadable) as refusal:
        decode(Toy, document, "x")
    assert refusal.value.why == why
    newer = why.startswith("version 4")
    assert ("newer Floodmark" if newer else "Restore it") in (refusal.value.hint or "")


@pytest.mark.usefixtures("toys")
def test_each_format_counts_its_own_versions() -> None:
    """The toys' third version is no manifest's."""
    with pytest.raises(StateUnreadable, match="version 2 is not known to this Floodmark \\(it reads 1\\)"):
        decode(Manifest, changed((FOLDER / "manifest-1.json").read_bytes(), version=2), "x")
