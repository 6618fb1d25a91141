"""Every single fact of a fingerprint changes it. Where they come from: integration/test_catalog_fingerprint."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from floodmark.model import TableName
from floodmark.source.postgres.fingerprint import of_database, of_relation, schema_digest
from floodmark.source.postgres.relations import Detail, Edge, Label, Relation
from floodmark.source.postgres.types import JSON, Attribute, Cast, PgType, Types

ATTRIBUTE = Attribute(20000, 1, "a", 20001, -1, "mood", False, "", False, 0, None, "700")
FIELD = Attribute(20003, 1, "f", 20001, -1, "mood", False, "", False, 0, None, "701")
ENUM = PgType(20001, "mood", "public", "e", 0, 0, 0, 0, 3507, 0, "702", None)
PAIR = PgType(20002, "pair", "public", "c", 0, 0, 0, 20003, 2291, 0, "703", None)
RANGE = PgType(20004, "moods", "public", "r", 0, 0, 0, 0, 3834, 20001, "704", "705")
CAST = Cast(20005, 20001, JSON, 20006, "e", "f", "706")
FACTS: dict[str, Any] = {
    "version": 180000,
    "extensions": [("plpgsql", "1.0", 1, "1")],
    "relation": Relation(20000, TableName("public", "t"), "r", False, False),
    "detail": Detail(20000, 2, "p", 5, None, True, True, True, False, 8192, 8192),
    "attribute": ATTRIBUTE,
    "label": Label(20000, 0, "anon", "x"),
    "edge": Edge(20000, 20007, False),
    "enum": ENUM,
    "pair": PAIR,
    "range": RANGE,
    "field": FIELD,
    "cast": CAST,
    "enum_label": (1, "sad", "707"),
}


def digest(**changed: Any) -> str:
    f = {**FACTS, **changed}
    types = Types(
        {kind.oid: kind for kind in (f["enum"], f["pair"], f["range"])},
        {20003: [f["field"]]},
        {20001: [f["enum_label"]]},
        [f["cast"]],
        frozenset(),
        {},
    )
    columns = [
        f["attribute"],
        msgspec.structs.replace(ATTRIBUTE, type=20002),
        msgspec.structs.replace(ATTRIBUTE, type=20004),
    ]
    relation = of_relation(f["relation"], f["detail"], [f["attribute"]], [f["label"]])
    return schema_digest(of_database(f["version"], f["extensions"]), [relation], [f["edge"]], types, columns)


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 180001},
        {"extensions": []},
        {"extensions": [("plpgsql", "1.1", 1, "1")]},
        {"relation": Relation(20008, TableName("public", "t"), "r", False, False)},
        {"relation": Relation(20000, TableName("public", "t"), "p", False, False)},
        *({"detail": msgspec.structs.replace(FACTS["detail"], **{name: value})}
          for name, value in (("access_method", 3), ("persistence", "u"), ("bound", "x"))),
        *({"attribute": msgspec.structs.replace(ATTRIBUTE, **{name: value})}
          for name, value in (("number", 2), ("name", "b"), ("type", 20004), ("typmod", 4), ("dropped", True),
                              ("generated", "s"), ("not_null", True), ("missing", "{7}"), ("xmin", "1"))),
        *({"field": msgspec.structs.replace(FIELD, **{name: value})}
          for name, value in (("name", "b"), ("typmod", 4), ("xmin", "1"))),
        *({"enum": msgspec.structs.replace(ENUM, **{name: value})}
          for name, value in (("name", "x"), ("kind", "b"), ("output", 1), ("xmin", "1"))),
        *({"range": msgspec.structs.replace(RANGE, **{name: value})}
          for name, value in (("subtype", 20002), ("xmin", "1"), ("range_xmin", "1"))),
        *({"cast": msgspec.structs.replace(CAST, **{name: value})}
          for name, value in (("target", 23), ("source", 20002), ("function", 1), ("method", "i"), ("xmin", "1"))),
        {"enum_label": (2, "sad", "707")},
        {"enum_label": (1, "glad", "707")},
        {"enum_label": (1, "sad", "1")},
        {"label": Label(20000, 1, "anon", "x")},
        {"label": Label(20000, 0, "anon", "y")},
        {"edge": Edge(20000, 20009, False)},
        {"edge": Edge(20000, 20007, True)},
    ],
    ids=str,
)  # fmt: skip
def test_a_changed_fact_changes_the_digest(changed: dict[str, Any]) -> None:
    assert digest(**changed) != digest()


@pytest.mark.parametrize(
    "changed",
    [
        {"detail": msgspec.structs.replace(FACTS["detail"], **{name: value})}
        for name, value in (("relfilenode", 6), ("may_select", False), ("heap_bytes", 1), ("toast_bytes", 1))
    ],
    ids=str,
)
def test_what_belongs_to_chunks_or_to_the_role_does_not(changed: dict[str, Any]) -> None:
    assert digest(**changed) == digest()
