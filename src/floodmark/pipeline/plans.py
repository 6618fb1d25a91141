"""The plan of a table: for each chunk a question, a reason to extract it, or a proof. Pure. `detect` makes it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from msgspec import Struct

from floodmark.model import Chunk, Reason, ReasonCode
from floodmark.observed import Observation, Part, Question, TableInfo
from floodmark.pipeline.remembered import RememberedChunk
from floodmark.wording import plural

# The order of reasons: a table shows the first of these that any of its chunks has.
_WEIGHT: tuple[ReasonCode, ...] = (
    "forced",
    "resend",
    "first_run",
    "schema_changed",
    "config_changed",
    "lineage_changed",
    "rewritten",
    "rows_changed",
    "rows_removed",
    "objects_missing",
    "no_proof",
)


def weightiest(codes: Collection[str]) -> ReasonCode | None:
    """Return the code that a table shows, of those that its chunks have. None if no code is known."""
    return next((code for code in _WEIGHT if code in codes), None)


class Policy(Struct, frozen=True):
    """The user's choices that affect decisions. `resend` says that a table is due to be sent again.

    `grows` says that large tables get larger chunks than `chunk_bytes`.
    """

    chunk_bytes: int
    full: bool = False
    objects_stay: bool = True
    resend: bool = False
    grows: bool = False


class ChunkPlan(Struct, frozen=True, gc=False):
    """The plan for one chunk.

    Exactly one of `question` (ask first), `reason` (extract) and `proven` is set. `settle_plan` turns the question into
    a reason or into `proven`. `counted` is the number of rows that the reason is about, 0 if it is about no number.
    `digests` are the remembered chunks of a part that is proven by digest. `by_journal` says that the journal proved
    it, and `unwritten` that no block was written, so nobody asked.
    """

    part: Part
    chunk: Chunk
    open: bool
    question: Question | None = None
    reason: Reason | None = None
    remembered: RememberedChunk | None = None
    proven: Observation | None = None
    counted: int = 0
    digests: Mapping[str, RememberedChunk] = {}
    by_journal: bool = False
    unwritten: bool = False

    @property
    def stored_key(self) -> str | None:
        """Return the key of the object that is remembered for this chunk."""
        known = self.remembered.object if self.remembered is not None else None
        return None if known is None else known.key

    @property
    def estimated_bytes(self) -> int:
        """Return about how many bytes of the source the extraction of this chunk reads."""
        if self.part.ranges > 1:
            return self.part.total_bytes // self.part.ranges
        if self.chunk.stop is None or not self.part.heap_blocks:
            return self.part.total_bytes
        blocks = min(self.chunk.stop, self.part.heap_blocks) - self.chunk.start
        return max(0, blocks) * self.part.total_bytes // self.part.heap_blocks


class TablePlan(Struct, frozen=True):
    """The plan for a table: its chunks in the order of their lines.

    `why_counted` says why rows are counted although the source keeps WAL summaries: "" if blocks were written. It is
    None if the source keeps none, or if no rows are counted.
    """

    info: TableInfo
    chunks: tuple[ChunkPlan, ...]
    why_counted: str | None = None

    @property
    def questions(self) -> tuple[Question, ...]:
        return tuple(chunk.question for chunk in self.chunks if chunk.question is not None)

    @property
    def to_extract(self) -> tuple[ChunkPlan, ...]:
        return tuple(chunk for chunk in self.chunks if chunk.reason is not None)

    @property
    def reason(self) -> Reason:
        """Return the most important reason of all chunks and how many share it, or `unchanged` if all are proven."""
        reasons = [chunk.reason for chunk in self.chunks if chunk.reason is not None]
        if not reasons:
            if self.info.watched is not None:
                return Reason(
                    "unchanged", f"the row count and the greatest {self.info.watched} are the same; this is no proof"
                )
            return self._proven_reason()
        first = min(reasons, key=lambda reason: _WEIGHT.index(reason.code))
        same = [chunk for chunk in self.chunks if chunk.reason is not None and chunk.reason.code == first.code]
        if len(self.chunks) == 1 or first.code in ("first_run", "forced", "resend"):
            return first
        detail = counted_detail(first.code, sum(chunk.counted for chunk in same)) or first.detail
        return Reason(first.code, f"{detail} ({len(same)} of {plural(len(self.chunks), 'chunk')})")

    def _proven_reason(self) -> Reason:
        """Return the reason of a table whose chunks are all proven unchanged, with the ways in which they were."""
        several = f"all {plural(len(self.chunks), 'chunk')} " if len(self.chunks) > 1 else ""
        by_journal = sum(chunk.by_journal for chunk in self.chunks)
        if by_journal and by_journal == len(self.chunks):
            return Reason("journal", f"{several}proven unchanged by the journal")
        doubt = self.info.journal_doubt
        more = f", {by_journal} of them by the journal" if by_journal else ""
        more += f"; the journal was not used: {doubt}" if doubt is not None else ""
        return Reason("unchanged", f"{several}proven unchanged{more}{self._blocks_detail(by_journal)}")

    def _blocks_detail(self, by_journal: int) -> str:
        """Return how many chunks were proven because no block was written, and why the others were counted."""
        unwritten = sum(chunk.unwritten for chunk in self.chunks)
        counted = len(self.chunks) - unwritten - by_journal
        if not unwritten:
            if not counted or self.why_counted is None:
                return ""
            return "; the rows were counted" + (f": {self.why_counted}" if self.why_counted else "")
        if not counted and not by_journal:
            return ": no block written"
        return f": no block written in {unwritten}" + (f", rows counted in {counted}" if counted else "")


_VERBS = {"rows_changed": "inserted or updated", "rows_removed": "removed"}


def counted_detail(code: str, rows: int) -> str | None:
    """Return how many rows of all chunks a reason is about, or None if no chunk counted any."""
    return f"{plural(rows, 'row')} {_VERBS[code]}" if rows and code in _VERBS else None


def extract_again(chunk: ChunkPlan, reason: Reason, counted: int = 0) -> ChunkPlan:
    """Return the same chunk, to be extracted for this reason. `counted` is the number of rows that it is about."""
    return ChunkPlan(chunk.part, chunk.chunk, chunk.open, None, reason, chunk.remembered, counted=counted)
