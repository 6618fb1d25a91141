"""The reasons why change can't be proven for a table or a part. Each function returns a reason or None.

The check is an allow-list: anything that is not known to be safe gets a reason. An unnecessary reason costs an
extraction; a missing one would call a changed table unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from floodmark.config import DetectMode
from floodmark.source.postgres.columns import ExtractedColumn
from floodmark.source.postgres.filters import provable
from floodmark.source.postgres.relations import KINDS, Extension, Relation, RelationDetail, SecurityLabel
from floodmark.source.postgres.types import FIRST_USER_OID, Attribute, TypeCatalog

HEAP = 2  # pg_am's oid of heap
# These keep a table's rows outside its own heap, behind hooks that no PostgreSQL catalog shows.
_RELOCATING_EXTENSIONS = ("citus", "timescaledb")


def of_mode(mode: DetectMode) -> str | None:
    """Return the reason if the user asked for no proof."""
    return "detect: always" if mode == "always" else None


def of_extensions(extensions: Iterable[Extension]) -> str | None:
    found = [one.name for one in extensions if one.name in _RELOCATING_EXTENSIONS]
    return f"extension {found[0]} can keep rows outside the table's heap" if found else None


def of_detach(pending: bool) -> str | None:
    return "a DETACH CONCURRENTLY was interrupted: parent and partitions disagree" if pending else None


def of_labels(labels: Iterable[SecurityLabel]) -> str | None:
    providers = sorted({label.provider for label in labels})
    return f"it has a security label of {providers[0]}, which can mask values" if providers else None


def of_storage(relation: Relation, detail: RelationDetail) -> str | None:
    """Return the reason for a part: only an ordinary user table in a heap keeps each row's xmin."""
    if relation.kind != "r":
        return f"a {KINDS[relation.kind]} has no xmin to prove changes with"
    if detail.access_method != HEAP:
        return "its access method is not heap"
    return "it is a catalog table" if relation.oid < FIRST_USER_OID else None


def of_columns(columns: Iterable[ExtractedColumn], types: TypeCatalog) -> str | None:
    for extracted in columns:
        why = _of_column(extracted, types)
        if why is not None:
            return f"column {extracted.attribute.name}: {why}"
    return None


def of_filter(where: str | None, attributes: Sequence[Attribute], types: TypeCatalog) -> str | None:
    if where is None:
        return None
    if types.recast_builtins:
        return "the filter can use a cast between built-in types that is not PostgreSQL's own"
    kinds = {a.name: None if a.generated == "v" else types.filter_kind(a) for a in attributes if not a.dropped}
    return provable(where, kinds)


def _of_column(extracted: ExtractedColumn, types: TypeCatalog) -> str | None:
    """Return the reason for one column. A masked value does not count.

    The mask null reads nothing, and redact reads only if there is a value.
    """
    if extracted.mask == "null":
        return None
    if extracted.attribute.generated == "v":
        return "a virtual generated column changes without a write"
    if extracted.mask == "redact":
        return None
    if extracted.mask == "hash":
        return types.unstable_as_text(extracted.attribute.type)
    return types.unstable(extracted.attribute.type)
