"""A check that a statement read the relation that the snapshot means.

A statement names a relation, and PostgreSQL resolves the name when the statement starts, by the catalog at that time. A
table or a schema can have been renamed since the snapshot. The relation that the name led to stays locked until the
transaction ends. So the oids of the locked relations show what was read. Pure: they come in as sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from msgspec import Struct


class ExpectedReads(Struct, frozen=True):
    """The user relations, by oid, that a statement about a part locks.

    `root` is the relation that the statement names, `below` are the partitions that are read through it. A filter can
    prune partitions: then not `all_below` have to be locked. A statement that is not `exact` can lock more: the
    relations that a view or a user's function reads. `only` says that the statement names the relation with ONLY, so
    that it does not read tables that inherit from it. `parent` says that it reads partitions through it. `toast` are
    TOAST tables, which are locked when a value is fetched from them.

    PostgreSQL plans a statement with the expressions of indexes and statistics. If one calls a user's function,
    planning can lock the relations that the function reads. If this is possible, it has to be `measured`.
    """

    root: int
    below: frozenset[int] = frozenset()
    all_below: bool = True
    exact: bool = True
    only: bool = True
    parent: bool = False
    measured: bool = False
    toast: frozenset[int] = frozenset()


class LockedRelation(Struct, frozen=True, array_like=True):
    """A relation that the transaction has locked.

    It holds the relkind and the file in the snapshot (None: not in it), and the present file (None: it has none).
    """

    oid: int
    kind: str | None
    file_then: int | None
    file_now: int | None

    @property
    def rewritten(self) -> bool:
        """Return True if the snapshot means another file, or no such relation."""
        return self.kind is None or (self.kind in ("r", "m", "t") and self.file_now != self.file_then)


def replaced_because(reads: ExpectedReads, locked: Set[int], before: Set[int] = frozenset()) -> str | None:
    """Return why the locked relations are not those that the statement should have read, or None.

    `before` are those that earlier statements of the transaction locked. If `reads.root` is among them, nothing shows
    that this statement read it too, so that is a reason as well.
    """
    found = locked - before - reads.toast
    if reads.root not in found:
        return "its name led to another relation"
    if reads.all_below and not reads.below <= found:
        return "a partition was detached, or replaced"
    if reads.exact and not found <= reads.below | {reads.root}:
        return "another relation was read with it"
    return None


def oids(locked: Iterable[LockedRelation]) -> frozenset[int]:
    """Return the relations without the TOAST tables, which hold no row of their own."""
    return frozenset(one.oid for one in locked if one.kind != "t")
