"""Two manifests → what is different: decided as consumers decide it, by checksum and columns."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from fix_state import dropped, entry, failed_over, manifest, never, point, stored
from floodmark.differences import ManifestDifference, TableDifference, compare_manifests
from floodmark.model import Column, Encoding, TableEntry
from floodmark.state.manifest import Manifest, checksum

ID, NAME, NOTE = Column("id", "integer", False), Column("name", "text", True), Column("note", "text", True)
PERSON = entry("person", point(0), stored("a"), stored("b"), columns=(ID, NAME))


def run(*tables: TableEntry, run_id: str = "new", **changes: object) -> Manifest:
    return manifest(run_id, point(0), *tables, **changes)


def compared(old: TableEntry | None, new: TableEntry | None) -> TableDifference | None:
    """The one table's difference."""
    sides = [run(*(() if one is None else (one,))) for one in (old, new)]
    found = compare_manifests(*sides).tables
    return found[0] if found else None


def changed(new: TableEntry, old: TableEntry = PERSON) -> TableDifference:
    found = compared(old, new)
    assert found is not None and found.change == "changed" and found.is_different
    return found


def with_objects(*keys: str) -> TableEntry:
    return entry("person", point(9), *map(stored, keys), columns=(ID, NAME))


def test_a_table_with_the_same_lines_and_columns_is_unchanged_whoever_wrote_its_objects() -> None:
    rewritten = tuple(replace(one, key=f"{one.key}-again", sha256="0" * 64, stored_bytes=1) for one in PERSON.objects)
    again = replace(PERSON, status="extracted", objects=rewritten, encoding=Encoding("jsonl", "zstd"), stored_bytes=2)
    found = compared(PERSON, again)
    assert found is not None and found.change == "unchanged" and not found.is_different
    assert (
        found.old is not None and found.new is not None and (found.old.stored_bytes, found.new.stored_bytes) == (80, 2)
    )
    assert compared(PERSON, failed_over(PERSON)) == compared(PERSON, PERSON)


def test_rows_and_objects_that_are_new_and_gone() -> None:
    found = changed(with_objects("a", "c", "c", "d"))
    assert (found.objects_new, found.objects_gone) == (3, 1)
    assert found.detail == "3 of 4 objects new, 1 gone"
    assert found.old is not None and found.new is not None
    assert (found.old.rows, found.new.rows, found.new.objects) == (6, 12, 4)
    assert changed(with_objects("a")).detail == "0 of 1 object new, 1 gone"


def test_the_same_object_twice_counts_twice() -> None:
    found = changed(with_objects("a"), with_objects("a", "a"))
    assert (found.objects_new, found.objects_gone) == (0, 1)


def test_the_same_objects_in_another_order_are_other_lines() -> None:
    found = changed(with_objects("b", "a"))
    assert (found.objects_new, found.objects_gone, found.detail) == (0, 0, "the objects have another order")


def test_columns_are_compared_by_name_type_and_nullability() -> None:
    columns = (Column("id", "bigint", False), NOTE)
    found = changed(replace(with_objects("c"), columns=columns))
    assert (found.columns_added, found.columns_removed) == ((NOTE,), (NAME,))
    assert [(one.name, one.old.type, one.new.type) for one in found.columns_changed] == [("id", "integer", "bigint")]
    told = "columns added: note; removed: name; type changed: id (integer to bigint); 1 of 1 object new, 2 gone"
    assert found.detail == told


@pytest.mark.parametrize(
    ("columns", "detail", "number"),
    [
        ((ID, replace(NAME, nullable=False)), "other nullability: name", 1),
        ((NAME, ID), "the columns have another order", 0),
        ((ID, NAME, NOTE), "columns added: note", 0),
    ],
)
def test_other_columns_change_a_table_with_the_same_lines(
    columns: tuple[Column, ...], detail: str, number: int
) -> None:
    found = changed(replace(PERSON, columns=columns))
    assert (found.detail, len(found.columns_changed)) == (detail, number)


def test_a_domain_s_base_that_only_one_release_wrote_is_no_change() -> None:
    plain = replace(PERSON, columns=(ID, Column("name", "label", True)))
    based = replace(PERSON, columns=(ID, Column("name", "label", True, "text")))
    other = replace(PERSON, columns=(ID, Column("name", "label", True, "varchar")))
    for old, new in ((plain, based), (based, plain)):
        found = compared(old, new)
        assert found is not None and found.change == "unchanged"
    assert changed(other, based).detail == "type changed: name (label, text to label, varchar)"


def test_another_format_of_the_rows_is_said() -> None:
    found = changed(replace(with_objects("c"), encoding=Encoding("csv", "gzip")))
    assert found.detail == "encoding jsonl/gzip to csv/gzip; 1 of 1 object new, 2 gone"


def test_tables_come_and_go() -> None:
    added, gone = compared(None, PERSON), compared(PERSON, dropped(PERSON))
    assert added is not None and gone is not None
    assert (added.change, added.old, added.objects_new, added.detail) == ("added", None, 2, "2 objects")
    assert (gone.change, gone.new, gone.objects_gone, gone.detail) == ("dropped", None, 2, "gone")
    excluded = compared(PERSON, None)
    assert excluded is not None and excluded.change == "dropped" and "excluded" in excluded.detail
    back = compared(dropped(PERSON), PERSON)
    assert back is not None and back.change == "added"
    assert all(one.is_different for one in (added, gone, excluded, back))
    assert [compared(dropped(PERSON), one) for one in (None, dropped(PERSON))] == [None, None]
    assert compared(None, dropped(PERSON)) is None


def test_a_table_that_no_run_could_read_is_neither_there_nor_dropped() -> None:
    for old in (None, never("person"), dropped(PERSON)):
        found = compared(old, never("person"))
        assert found is not None and found.change == "unread" and not found.is_different
        assert found.detail == "no run could read it: no SELECT"
    lost = compared(PERSON, never("person"))
    assert lost is not None and lost.change == "unread" and lost.is_different
    read = compared(never("person"), PERSON)
    assert read is not None and read.change == "added"


def test_without_an_old_manifest_every_table_is_added() -> None:
    found = compare_manifests(None, run(PERSON, never("secret")))
    assert (found.old, found.other_database, found.is_different) == (None, False, True)
    assert [(one.name, one.change) for one in found.tables] == [("person", "added"), ("secret", "unread")]


def test_another_database_is_a_difference_even_with_the_same_tables() -> None:
    old, new = run(PERSON, run_id="old"), run(PERSON)
    assert not compare_manifests(old, new).is_different
    moved = replace(new, source=replace(new.source, system_identifier="8"))
    found = compare_manifests(old, moved)
    assert found.other_database and found.is_different and found.tables[0].change == "unchanged"
    assert found.old is not None and (found.old.run_id, found.new.run_id) == ("old", "new")


def test_tables_are_in_the_order_of_their_names_and_schemas_count() -> None:
    tables = [replace(PERSON, name="b"), replace(PERSON, schema="audit"), replace(PERSON, name="a")]
    found = compare_manifests(run(*tables[:2]), run(*tables[1:]))
    assert [(one.table.label, one.change) for one in found.tables] == [
        ("audit.person", "unchanged"),
        ("public.a", "added"),
        ("public.b", "dropped"),
    ]


def test_an_empty_table_that_gets_a_column_has_changed() -> None:
    empty = entry("person", point(0), columns=(ID,))
    assert empty.checksum == checksum(())
    assert changed(replace(empty, columns=(ID, NAME)), empty).detail == "columns added: name"


def test_the_json_form_has_a_schema_and_can_be_read_back() -> None:
    found = compare_manifests(run(PERSON, run_id="old"), run(with_objects("c")))
    assert msgspec.json.decode(msgspec.json.encode(found), type=ManifestDifference, strict=True) == found
    schema = msgspec.json.schema(ManifestDifference)
    assert {"ComparedRun", "TableDifference", "TableContent", "ChangedColumn"} <= set(schema["$defs"])
