"""The frozen structs that one run exchanges with its source: what a snapshot shows, questions and answers.

None of them is stored. Sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from floodmark.model import Chunk, Column, Fingerprint, ReasonCode, TableName, WalBase


class JournalFacts(Struct, frozen=True):
    """A part's journal, as one snapshot shows it, if its table has `detect: journal`.

    `stamp` is as in JournalMark. `newest` is above the id of every transaction that the journal says wrote to the part.
    The journal can lack transactions below `floor`. `doubt` says why the journal can't be used: then the other fields
    do not count.
    """

    stamp: str = ""
    newest: int = 0
    floor: int = 0
    doubt: str | None = None


class Part(Struct, frozen=True):
    """A relation that holds rows of a table: the table itself, or a leaf partition.

    `by_block` parts are cut into chunks of heap blocks. Others are read in `ranges` of a key, or whole if that is below
    2. With `digests`, a chunk is proven by a digest that the source computes over its values. `no_proof` says why
    change can't be proven, None if it can. `heap_blocks` and `total_bytes` (TOAST included) were measured after the
    snapshot, so every row that the snapshot shows lies below heap_blocks. If `measured` is False, another session held
    the part exclusively: both were only estimated, and that does not hold. `narrow` says that no row has a large value
    elsewhere (in TOAST, in the catalog, or computed). So a block's rows are no larger than a block, apart from
    compression.

    `fingerprint` is a digest of the part's definition, empty if that is the table's own definition. `stamp` is a digest
    of the transactions that wrote these definitions: it shows a change even if it was undone. It compares only within
    one history, from one snapshot to another. `journal` is None in other modes than `detect: journal`.

    `logged` says that each write of a block is in the source's write-ahead log.
    """

    id: str
    table: TableName
    relfilenode: int
    heap_blocks: int
    total_bytes: int
    by_block: bool
    no_proof: str | None = None
    narrow: bool = False
    measured: bool = True
    fingerprint: str = ""
    stamp: str = ""
    ranges: int = 0
    digests: bool = False
    journal: JournalFacts | None = None
    logged: bool = False


class TableInfo(Struct, frozen=True, kw_only=True):
    """A table as the source shows it in one snapshot.

    `denied` says why it can't be read, if so. `denied_by` is the code of that reason: denied or contract.

    `watched` is the column that `detect: column` uses. It is None if only a proof counts. `primary_key`, `unique_keys`
    and `comment` are as in TableEntry. `masked` are the names of the columns that are extracted behind a mask.
    `unapproved` are columns that are not extracted because the contract does not approve them as they are.
    `attributes` are those of each column whose type is composite: `a`, and `a.b` for one within it.
    """

    table: TableName
    oid: int
    kind: str
    columns: tuple[Column, ...]
    parts: tuple[Part, ...]
    fingerprint: Fingerprint
    denied: str | None = None
    watched: str | None = None
    primary_key: tuple[str, ...] | None = None
    unique_keys: tuple[tuple[str, ...], ...] = ()
    comment: str | None = None
    denied_by: ReasonCode = "denied"
    masked: tuple[str, ...] = ()
    unapproved: tuple[Column, ...] = ()
    attributes: Mapping[str, tuple[str, ...]] = {}

    @property
    def journal_doubt(self) -> str | None:
        """Return why a part's journal can't be used although the user chose it, or None."""
        doubts = (part.journal.doubt for part in self.parts if part.journal is not None)
        return next((doubt for doubt in doubts if doubt is not None), None)


class Question(Struct, frozen=True, gc=False):
    """A chunk to observe. `since` is the remembered xmin (64 bit): rows from it on count as younger.

    The last chunk of a part is `open`: it is read to the end of the part, whatever `chunk.stop` says. `watched` is the
    column whose greatest value is also asked for. `probe` asks only if there is any row: the observation's `rows` can
    then be any number above 0 for "yes", and its other fields do not count.
    """

    table: TableName
    part: Part
    chunk: Chunk
    open: bool
    since: int
    watched: str | None = None
    probe: bool = False


class Observation(Struct, frozen=True, gc=False):
    """The source's answer about a chunk.

    It holds the count of all rows, of those from `since` on (0 if not asked), and of those with xmin 2. It also holds
    the chunk's file, and the SHA-256 of the watched column's greatest value, if there is one. `digest` (hex, 256 bits)
    is set if the part is proven by digest. It covers every value of the chunk's lines, and their order.
    """

    rows: int
    young: int
    frozen: int
    relfilenode: int
    newest: str | None = None
    digest: str | None = None


class BlockQuestion(Struct, frozen=True):
    """Files whose written blocks are asked for: those since `base`. `grains` is a number of blocks for each file.

    The answer needs to be no finer than that.
    """

    base: WalBase
    grains: Mapping[int, int]


class WrittenBlocks(Struct, frozen=True):
    """The blocks of some files that were written between a base and a snapshot, according to the WAL summaries.

    `ranges` are [start, stop) for each file, in order and apart from each other. `limits` is the lowest block of each
    file that was created, truncated or removed, from which on that happened. `doubt` says why the list can't be used:
    then the other fields do not count.
    """

    ranges: Mapping[int, tuple[tuple[int, int], ...]] = {}
    limits: Mapping[int, int] = {}
    doubt: str | None = None


class Extracted(Struct, frozen=True):
    """The result of an extracted chunk: the number of lines, and the observation of the same rows (None: no proof)."""

    lines: int
    observed: Observation | None
