"""A table's fingerprint: digests of all that shapes its lines besides its rows.

Catalog rows go in with their own xmin: what is renamed there and back during a run leaves no other trace.
relfilenode is not in it; it belongs to each chunk's watermark.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from floodmark.config import DetectMode, Secret
from floodmark.source.masks import mask_identity
from floodmark.source.postgres.columns import Extracted
from floodmark.source.postgres.relations import Detail, Edge, Label, Relation
from floodmark.source.postgres.types import Attribute, Types

# Raise it when the same rows come out as other lines.
OUTPUT_VERSION = 1


def of_database(version: int, extensions: Sequence[tuple[str, str, int, str]]) -> tuple[Any, ...]:
    """The facts that every table of a database shares."""
    return version, extensions


def of_relation(
    relation: Relation, detail: Detail, attributes: Sequence[Attribute], labels: Sequence[Label]
) -> tuple[Any, ...]:
    """The facts of one relation: a table, or a member of a partitioned one."""
    shape = (relation.oid, relation.kind, detail.access_method, detail.persistence, detail.bound)
    return shape, attributes, labels


def schema_digest(
    database: tuple[Any, ...],
    relations: Iterable[tuple[Any, ...]],
    edges: Iterable[Edge],
    types: Types,
    columns: Iterable[Attribute],
) -> str:
    """What the source defines: the database's facts, the relations', how they hang together, the types'."""
    reachable = frozenset[int]().union(*(types.closure(a.type) for a in columns if not a.dropped))
    return _digest([database, list(relations), list(edges), [types.facts(oid) for oid in sorted(reachable)]])


def config_digest(
    columns: Sequence[Extracted],
    where: str | None,
    detect: tuple[DetectMode, str | None],
    mask_key: Secret | None,
    encoding_digest: str,
) -> str:
    """What the user chose. The mask key goes in as its identity, and only where a mask uses it."""
    hashed = any(c.mask == "hash" for c in columns)
    key = mask_identity(mask_key) if hashed and mask_key is not None else None
    chosen = [(c.attribute.name, c.mask) for c in columns]
    return _digest([OUTPUT_VERSION, chosen, where, detect, key, encoding_digest])


def _digest(facts: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()
