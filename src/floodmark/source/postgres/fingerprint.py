"""A table's fingerprint: digests of everything that shapes its lines, apart from its rows.

Facts are rows of the catalog, in lists. A digest of their content is the fingerprint, which is remembered: the same
rows under the same content give the same lines, whatever happened in between. A digest of their xmin is the stamp. A
snapshot reads the lines, but the present catalog shapes them. So within a run even a change that was undone counts, and
the xmin is its only trace. relfilenode is in neither digest: it belongs to each chunk's watermark.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Struct

from floodmark.config import DetectMode, Secret
from floodmark.source.masks import mask_identity
from floodmark.source.postgres.columns import ExtractedColumn
from floodmark.source.postgres.relations import PartitionEdge, Relation, RelationDetail, SecurityLabel
from floodmark.source.postgres.types import Attribute, TypeCatalog

# Raise this if the same rows give other lines.
OUTPUT_VERSION = 1
# Raise this if a weaker check might have let wrong lines land: tables read under a lower number are read again once.
GUARDS = 2


class TableDefinition(Struct, frozen=True):
    """Two digests of the same facts: `schema` of their content, `stamp` of the transactions that wrote them."""

    schema: str
    stamp: str


class _NamedParts(Struct, frozen=True):
    """The transactions that gave a relation its name and its schema's name."""

    name_xmin: str
    schema_xmin: str


class _EncodedFacts:
    """Facts that many tables share, encoded once: what `_content` and `_trace` make of them, as JSON."""

    def __init__(self, content: msgspec.Raw, trace: msgspec.Raw) -> None:
        self.content, self.trace = content, trace


def _as_json(facts: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(facts))


def of_database(version: int) -> int:
    """Return the fact that every table of a database shares."""
    return version


def of_relation(
    relation: Relation, detail: RelationDetail, attributes: Sequence[Attribute], labels: Sequence[SecurityLabel]
) -> tuple[Any, ...]:
    """Return the facts of one relation: a table, or a member of a partitioned one."""
    shape = (relation.oid, relation.kind, detail.access_method, detail.persistence)
    return shape, attributes, labels


def of_names(detail: RelationDetail, count: bool) -> Struct:
    """Return the transactions that named a relation and its schema, if they `count`.

    They are a trace without content.
    """
    return _NamedParts(detail.name_xmin, detail.schema_xmin) if count else _NamedParts("", "")


def of_types(types: TypeCatalog, columns: Iterable[Attribute]) -> Any:
    """Return the facts of all types that some columns reach. Tables with the same types share them."""
    used = frozenset(a.type for a in columns if not a.dropped)
    known = types.encoded.get(used)
    if known is None:
        reachable = frozenset[int]().union(*map(types.closure, used))
        facts = [types.facts(oid) for oid in sorted(reachable)]
        known = types.encoded[used] = _EncodedFacts(_as_json(_content(facts)), _as_json(_trace(facts)))
    return known


def of_tree(edges: Iterable[PartitionEdge], members: Iterable[RelationDetail]) -> tuple[Any, ...]:
    """Return the structure of a partitioned table. It counts if the table is read through the parent."""
    return list(edges), [(member.oid, member.bound) for member in members]


def table_definition(facts: Sequence[Any], above: TableDefinition | None) -> TableDefinition:
    """Return the digests of facts, combined with those of the definition `above` them."""
    schema, stamp = ("", "") if above is None else (above.schema, above.stamp)
    return TableDefinition(sha256_of([schema, _content(facts)]), sha256_of([stamp, _trace(facts)]))


def _content(fact: Any) -> Any:
    """Return facts without the transactions that wrote them."""
    if isinstance(fact, Struct):
        return _fields_of(type(fact), False)(fact)
    if isinstance(fact, _EncodedFacts):
        return fact.content
    return list(map(_content, fact)) if isinstance(fact, list | tuple) else fact


def _trace(fact: Any) -> Any:
    """Return the transactions that wrote some facts."""
    if isinstance(fact, Struct):
        return _fields_of(type(fact), True)(fact)
    if isinstance(fact, _EncodedFacts):
        return fact.trace
    return list(map(_trace, fact)) if isinstance(fact, list | tuple) else None


@cache
def _fields_of(kind: type[Struct], trace: bool) -> Callable[[Struct], Sequence[Any]]:
    """Return a function for the fields of a fact that tell which transaction wrote it, or for all others."""
    names = tuple(name for name in kind.__struct_fields__ if name.endswith("xmin") is trace)
    if len(names) > 1:
        return attrgetter(*names)
    return lambda fact: [getattr(fact, name) for name in names]


def config_digest(
    columns: Sequence[ExtractedColumn],
    where: str | None,
    detect: tuple[DetectMode, str | None],
    mask_key: Secret | None,
    encoding_digest: str,
) -> str:
    """Return the digest of the user's choices. The mask key goes in as its identity, and only if a mask uses it.

    A journal spares questions and changes no line or mark, so that mode counts as `exact`.
    """
    hashed = any(c.mask == "hash" for c in columns)
    key = mask_identity(mask_key) if hashed and mask_key is not None else None
    chosen = [(c.attribute.name, c.mask) for c in columns]
    detect = ("exact", None) if detect[0] == "journal" else detect
    return sha256_of([OUTPUT_VERSION, chosen, where, detect, key, encoding_digest])


def sha256_of(facts: Any) -> str:
    """Return the digest of facts."""
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()
