"""Every single fact of a definition changes its digest. Where they come from: integration/test_catalog_fingerprint."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from floodmark.model import TableName
from floodmark.source.postgres.fingerprint import (
    TableDefinition,
    of_database,
    of_names,
    of_relation,
    of_tree,
    of_types,
    table_definition,
)
from floodmark.source.postgres.relations import (
    Extension,
    InstalledExtensions,
    PartitionEdge,
    Relation,
    RelationDetail,
    SecurityLabel,
)
from floodmark.source.postgres.types import JSON, Attribute, EnumLabel, PgType, TypeCast, TypeCatalog

ATTRIBUTE = Attribute(20000, 1, "a", 20001, -1, "mood", False, "", False, 0, None, "700")
FIELD = Attribute(20003, 1, "f", 20001, -1, "mood", False, "", False, 0, None, "701")
ENUM = PgType(20001, "mood", "public", "e", 0, 0, 0, 0, 3507, 0, "702", None)
PAIR = PgType(20002, "pair", "public", "c", 0, 0, 0, 20003, 2291, 0, "703", None)
RANGE = PgType(20004, "moods", "public", "r", 0, 0, 0, 0, 3834, 20001, "704", "705")
CAST = TypeCast(20005, 20001, JSON, 20006, "e", "f", "706")
FACTS: dict[str, Any] = {
    "version": 180000,
    "extension": Extension("moods", "1.0", 20010, "708"),
    "relation": Relation(20000, TableName("public", "t"), "r", False, False),
    "detail": RelationDetail(20000, 2, "p", 5, None, True, True, True, False, 8192, 8192, True, 0, "709", "710"),
    "attribute": ATTRIBUTE,
    "label": SecurityLabel(20000, 0, "anon", "x"),
    "edge": PartitionEdge(20000, 20007, False),
    "enum": ENUM,
    "pair": PAIR,
    "range": RANGE,
    "field": FIELD,
    "cast": CAST,
    "enum_label": EnumLabel(1, "sad", "707"),
}


def both(**changed: Any) -> TableDefinition:
    f = {**FACTS, **changed}
    types = TypeCatalog(
        {kind.oid: kind for kind in (f["enum"], f["pair"], f["range"])},
        {20003: [f["field"]]},
        {20001: [f["enum_label"]]},
        [f["cast"]],
        frozenset(),
        {},
        InstalledExtensions((f["extension"],), {ENUM.oid: f["extension"]}, {}),
    )
    columns = [
        f["attribute"],
        msgspec.structs.replace(ATTRIBUTE, type=20002),
        msgspec.structs.replace(ATTRIBUTE, type=20004),
    ]
    relation = of_relation(f["relation"], f["detail"], [f["attribute"]], [f["label"]])
    names = of_names(f["detail"], True)
    root = table_definition([of_database(f["version"]), relation, names, of_types(types, columns)], None)
    return table_definition([of_tree([f["edge"]], [f["detail"]])], root)


def with_each(fact: str, **values: Any) -> list[dict[str, Any]]:
    """One of the facts, each time with one field changed."""
    return [{fact: msgspec.structs.replace(FACTS[fact], **{field: value})} for field, value in values.items()]


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 180001},
        {"relation": Relation(20008, TableName("public", "t"), "r", False, False)},
        {"relation": Relation(20000, TableName("public", "t"), "p", False, False)},
        *with_each("extension", name="x", version="1.1", oid=20011),
        *with_each("detail", access_method=3, persistence="u", bound="x"),
        *with_each("attribute", number=2, name="b", type=20004, typmod=4, dropped=True, generated="s", not_null=True),
        *with_each("attribute", missing="{7}", collation=100),
        *with_each("field", name="b", typmod=4),
        *with_each("enum", name="x", kind="b", output=1, schema="x"),
        *with_each("range", subtype=20002),
        *with_each("cast", target=23, source=20002, function=1, method="i"),
        *with_each("enum_label", oid=2, label="glad"),
        *with_each("label", column=1, label="y"),
        *with_each("edge", child=20009, pending=True),
    ],
    ids=str,
)
def test_a_changed_fact_changes_the_fingerprint(changed: dict[str, Any]) -> None:
    assert both(**changed).schema != both().schema


@pytest.mark.parametrize(
    "changed",
    [
        *with_each("extension", xmin="1"),
        *with_each("detail", name_xmin="1", schema_xmin="1"),
        *with_each("attribute", xmin="1"),
        *with_each("field", xmin="1"),
        *with_each("enum", xmin="1"),
        *with_each("range", xmin="1", range_xmin="1"),
        *with_each("cast", xmin="1"),
        *with_each("enum_label", xmin="1"),
    ],
    ids=str,
)
def test_a_row_that_was_written_changes_the_stamp_alone(changed: dict[str, Any]) -> None:
    assert both(**changed).schema == both().schema
    assert both(**changed).stamp != both().stamp


@pytest.mark.parametrize(
    "changed", with_each("detail", relfilenode=6, may_select=False, heap_bytes=1, toast_bytes=1), ids=str
)
def test_what_belongs_to_chunks_or_to_the_role_does_not(changed: dict[str, Any]) -> None:
    assert both(**changed) == both()


def test_an_extension_that_owns_nothing_of_the_table_is_no_fact() -> None:
    def of(extensions: InstalledExtensions) -> TableDefinition:
        types = TypeCatalog({ENUM.oid: ENUM}, {}, {}, [], frozenset(), {}, extensions)
        return table_definition([of_types(types, [ATTRIBUTE])], None)

    other = Extension("other", "1", 20012, "1")
    assert of(InstalledExtensions((other,), {20013: other}, {20014: other})) == of(InstalledExtensions((), {}, {}))
