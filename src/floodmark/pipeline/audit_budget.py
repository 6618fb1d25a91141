"""The choice of chunks to audit: the least recently read first, within a share of the proven bytes. Pure.

A run earns a share of the bytes that it proved. Runs that do not spend theirs carry it over, so a chunk that is larger
than one run's share is read after some runs. The carried bytes never exceed the largest proven chunk, because nothing
needs more than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from msgspec import Struct

# Reading a chunk costs a transaction, whatever its size: about as much as this many bytes.
BYTES_OF_A_TASK = 128 * 1024


class Candidate(Struct, frozen=True):
    """A chunk that was proven unchanged. `last_read` is a timestamp as in keys, empty if it was never read."""

    last_read: str
    bytes: int

    @property
    def cost(self) -> int:
        return self.bytes + BYTES_OF_A_TASK


class AuditChoice(Struct, frozen=True):
    """The numbers of the candidates to audit, in this order, and the bytes that are carried over to the next run."""

    chosen: tuple[int, ...]
    carried: int


def choose_audits(candidates: Sequence[Candidate], share: float, carried: int, *, reads: bool = True) -> AuditChoice:
    """Choose the candidates to audit. `share` is a percentage, `carried` are the bytes that earlier runs left.

    The order is strict: a large chunk is not passed over for a small one, so every chunk gets its turn. A run that
    `reads` none leaves its share to the next one. A share of 0 turns the audit off.
    """
    if not share:
        return AuditChoice((), 0)
    budget = carried + round(sum(one.cost for one in candidates) * share / 100)
    chosen = _affordable(candidates, budget) if reads else []
    rest = budget - sum(candidates[number].cost for number in chosen)
    return AuditChoice(tuple(chosen), min(rest, max(carried, *(one.cost for one in candidates), 0)))


def _affordable(candidates: Sequence[Candidate], budget: int) -> list[int]:
    """Return the least recently read candidates whose cost the budget covers. Ties keep their order."""
    oldest_first = sorted(range(len(candidates)), key=lambda number: candidates[number].last_read)
    costs = accumulate(candidates[number].cost for number in oldest_first)
    return [number for number, cost in zip(oldest_first, costs, strict=True) if cost <= budget]
