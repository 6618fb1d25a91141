"""Take the guards of change detection out, one at a time, and see the tests go red: `make guards`.

Each guard is a piece of the source and what stands there without it, with tests that must then fail. Everything
happens in a copy, so the source is never touched. A guard whose removal nothing notices is printed and makes the
exit code 1; so is one whose text is no longer in the source, since then this list has to follow.

    python tests/guards.py [--trust] [WORD …]

WORD: only guards whose name holds one of the words. --trust: do not first see the tests green as things are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from floodmark.source.postgres.connect import _PINNED

ROOT = Path(__file__).parent.parent
PARALLEL = 3


class Edit(NamedTuple):
    file: str  # below src/floodmark
    old: str
    new: str


class Guard(NamedTuple):
    name: str
    edits: tuple[Edit, ...]
    tests: str  # arguments of pytest


def guard(name: str, file: str, old: str, new: str, tests: str) -> Guard:
    return Guard(name, (Edit(file, old, new),), tests)


ENCODER, NATIVE_LINES = "tests/integration/test_encoder.py", "tests/property/test_native_lines.py"
NATIVE_ROWS = "source/postgres/native_rows.py"
EXACT, LINEAGE, GUARDS, IDENTITIES, STANDBY = (
    f"tests/integration/test_{name}.py" for name in ("exact", "lineage", "guards", "identity", "standby")
)
REPACK, NEWER = "tests/integration/test_repack.py", "tests/integration/test_newer_server.py"
ORDER, LINES, UNIT = "tests/integration/test_order.py", "tests/integration/test_lines.py", "tests/unit/test_detect.py"
CATALOG, PROOF, PRINT = (f"tests/integration/test_catalog{name}.py" for name in ("", "_proof", "_fingerprint"))
SPARED, DEAD, RESUME = (
    "tests/integration/test_spared_readings.py", "tests/fault/test_dead_runs.py", "tests/unit/test_resume.py"
)  # fmt: skip
HISTORY, REMEMBERED, DETECT, ENTRIES = (
    "lineage.py",
    "pipeline/remembered.py",
    "pipeline/detect.py",
    "pipeline/entries.py",
)
SNAPSHOT, STATEMENTS, TRANSACTIONS, CONNECT, RELATIONS, TYPES, PROOFS, CATALOGS, PRINTS, IDENTITY, JOURNAL, OBJECTS, COORDINATOR, READER, IMPORTS, SHARED = (
    f"source/postgres/{name}.py"
    for name in (
        "snapshot", "statements", "transactions", "connect", "relations", "types", "proof", "catalog", "fingerprint",
        "identity", "journal", "journal_objects", "coordinator", "chunk_reader", "imports", "shared",
    )
)  # fmt: skip
JOURNALED, TRAPS = (
    "tests/integration/test_journal_proof.py",
    "tests/integration/test_journal_traps.py tests/integration/test_journal_server.py",
)
CUTS = "tests/property/test_chunk_cuts.py"
JUNIT = "tests/unit/test_detect_journal.py"
REMOTE = "tests/integration/test_remote_chunks.py"
DASK = "tests/fault/test_dask.py"
BLOCKS, CHECKPOINTS, WALS = "pipeline/blocks.py", "source/postgres/summaries.py", "source/postgres/wal.py"
WALPROOF, WALTRAPS = (f"tests/integration/test_wal_{name}.py" for name in ("proof", "traps"))
BUNIT, SUNIT = "tests/unit/test_blocks.py", "tests/unit/test_pg_summaries.py"

_FIELDS = "for name, why in _INTERRUPTIONS:"
_RESETS = "if self.stats_reset != later.stats_reset and not self._other_statistics_last(later):"
_LINEAGE = {
    "system_identifier": f"{UNIT} -k system_identifier",
    "database_oid": f"{GUARDS} -k anew_from_a_template",
    "database_xmin": f"{GUARDS} -k anew_from_a_template",
    "started_at": f"{LINEAGE} -k 'restart or volume'",
    "in_recovery": f"{LINEAGE} -k promoted",
}
LINEAGES = [
    guard(
        f"lineage: {field}", HISTORY, _FIELDS,
        f"for name, why in (one for one in _INTERRUPTIONS if one[0] != {field!r}):", tests,
    )
    for field, tests in _LINEAGE.items()
]  # fmt: skip
LINEAGES += [
    guard("lineage: stats_reset", HISTORY, _RESETS, "if False:", f"{LINEAGE} -k crashed_backend"),
    guard(
        "lineage: the other resets", HISTORY,
        "return (self.archiver_reset, self.wal_reset) == (later.archiver_reset, later.wal_reset)", "return True",
        f"{LINEAGE} -k crashed_backend",
    ),
    guard("lineage: both other resets", HISTORY, "(self.archiver_reset, self.wal_reset) == (later.archiver_reset, later.wal_reset)", "self.wal_reset == later.wal_reset", UNIT),
    guard("lineage: other resets that were not remembered", HISTORY, " or UNSET in (self.archiver_reset, self.wal_reset)", "", UNIT),
]  # fmt: skip
# Without any of it, what is wrong is not a reason that is given but the lines that have landed.
LINEAGES += [
    Guard(
        f"lineage as a whole: {what}",
        (Edit(HISTORY, _FIELDS, "for name, why in ():"), Edit(HISTORY, _RESETS, "if False:")),
        f"{LINEAGE} -k {what}",
    )
    for what in ("asynchronous", "volume", "lags")
]
POINTS = [
    guard("xmin backwards", DETECT, "now.xmin < then.xmin or ", "", UNIT),
    guard("xmax backwards", DETECT, " or now.xmax < then.xmax", "", UNIT),
    guard("gap of 2^30", DETECT, "if now.xmax - then.xmin >= MAX_XID_GAP:", "if False:", UNIT),
    guard("no stats_reset", DETECT, "if now.lineage.stats_reset is None:", "if False:", f"{GUARDS} -k tell"),
    guard("table oid", DETECT, "if known.table_oid != info.oid:", "if False:", UNIT),
]
COUNTS = [
    guard("young", DETECT, "if seen.young:", "if False:", f"{EXACT} -k 'test_a_day and (update or insert)'"),
    guard("count", DETECT, "if seen.rows < mark.rows:\n        return _extract_counted(chunk, \"rows_removed\", mark.rows - seen.rows)\n    if seen.rows != mark.rows or seen.frozen", "if seen.frozen", f"{EXACT} -k 'test_a_day and delete'"),
    guard("frozen", DETECT, "if seen.rows != mark.rows or seen.frozen != mark.frozen:", "if seen.rows != mark.rows:", f"{EXACT} -k surgery"),
    guard("young from x1 on", STATEMENTS, "age('{xid % 2**32}'::xid)", "(age('{xid % 2**32}'::xid) - 1)", f"{EXACT} -k open_across"),
    guard("x1 is xmin, not xmax", DETECT, "is_last, known.point.xmin or 0", "is_last, known.point.xmax or 0", f"{EXACT} -k open_across"),
    guard("chunk's lower end", STATEMENTS, "[f\"ctid >= '({chunk.start},0)'::tid\"] if chunk.start else []", "[]", f"{EXACT} -k reads_none"),
    guard("chunk's upper end", STATEMENTS, "if not open_end and chunk.stop is not None:", "if False:", f"{EXACT} -k reads_none"),
    guard("last chunk is open", STATEMENTS, "if not open_end and chunk.stop is not None:", "if chunk.stop is not None:", f"{GUARDS} -k measured tests/contract"),
    guard("last chunk swallows none", "pipeline/chunks.py", "if known.mark.rows:\n                cut.end", "if False:\n                cut.end", UNIT),
    guard("a chunk of another cut", DETECT, "remembered.chunks.get(chunk)\n", "{at.start: one for at, one in remembered.chunks.items()}.get(chunk.start)\n", CUTS),
    guard("new blocks that hold a row", DETECT, "if seen.rows:\n", "if False:\n", f"{SPARED} -k without_a_row"),
    guard("new blocks of another file", DETECT, "if seen.relfilenode != chunk.part.relfilenode:", "if False:", UNIT),
    guard("unmeasured size", DETECT, "if not part.measured:", "if False:", f"{GUARDS} -k measured"),
    guard("held tables are not measured", RELATIONS, "WHERE locktype = 'relation' AND mode", "WHERE false AND mode", f"{CATALOG} -k held"),
]  # fmt: skip
FILES = [
    Guard("relfilenode", (
        Edit(DETECT, "rewritten or (known is not None and known.mark.relfilenode != part.relfilenode)", "False"),
        Edit(DETECT, "seen.relfilenode != mark.relfilenode", "False"),
    ), f"{EXACT} -k 'test_a_day and (truncate or full or cluster)'"),
    guard("rewritten under us: observing", READER, "if file_now != asked.part.relfilenode:", "if False:", f"{IDENTITIES} -k truncated"),
    guard("rewritten under us: extracting", READER, "if any(one.rewritten for one in found):", "if False:", f"{EXACT} {GUARDS} -k 'rewritten_under or view_reads'"),
    guard("a newer server's unknown settings", "source/postgres/versions.py", "unknown - _SAFE_WITHOUT", "unknown - unknown", f"{NEWER} -k must_be_known"),
    guard("repacked under us: observing", READER, "if file_now != asked.part.relfilenode:", "if False:", f"{REPACK} -k new_blocks"),
    guard("repacked under us: extracting", READER, "if any(one.rewritten for one in found):", "if False:", f"{REPACK} -k under_the_snapshot"),
    guard("rewritten: what the snapshot does not show", IDENTITY, "self.kind is None or", "", "tests/unit/test_pg_identity.py"),
    guard("redefined while read", "pipeline/audit.py", "for table in compare(attempt.redefined_tables, [work.plan.info for work in read.values()]):", "for table in []:", f"{EXACT} -k 'enum_renamed or rewritten_under'"),
    guard("redefined: on the same server", SNAPSHOT, "if same_history(self.point.lineage, present.exported.point.lineage):", "if True:", f"{GUARDS} -k compared_on"),
    guard("snapshot is the coordinator's", IMPORTS, "if found is None or found.view != exported.view:", "if False:", f"{GUARDS} -k same_name"),
    guard("a worker has the coordinator's role", IMPORTS, "if found.role != exported.role:", "if False:", f"{REMOTE} -k another_role"),
    guard("a worker has the coordinator's mask key", SHARED, "if mask_identity(key) != self.mask:", "if False:", f"{REMOTE} -k mask_key"),
    guard("a worker of another server ends the run", SHARED, "if not isinstance(error, NotImported | NotReached):", "if True:", f"{REMOTE} -k another_server"),
    guard("a worker of another version does nothing", "engine/away.py", "    if version != __version__:\n", "    if False:\n", f"{DASK} -k another_floodmark"),
    guard("the workers' versions are checked first", "engine/dask_cluster.py", "    if others:\n        raise other_version", "    if False:\n        raise other_version", f"{DASK} -k another_floodmark"),
    guard("a task ends if nobody wants it", "engine/away.py", "            if not self._wanted():", "            if False:", f"{DASK} -k caller_that_is_killed"),
    guard("a task ends if it is told to", "engine/away.py", "    for stop in stops:\n        stop.ask", "    for stop in []:\n        stop.ask", "tests/contract/test_engine.py -k stopping_yields"),
    guard("an unexpected error's text stays on the worker", "engine/away.py", "why=f\"{type(error).__name__} in", "why=f\"{error} in", "tests/contract/test_engine.py -k unexpected"),
    guard("no more tasks at once than the limit", "engine/dask.py", "number_at_work >= self.limit", "number_at_work > self.limit", "tests/contract/test_engine.py -k never_more"),
    guard("a worker's objects are where the coordinator looks", "pipeline/remote.py", "            self._require_same_place(reply.worker, entry)\n", "", f"{REMOTE} -k another_place"),
    guard("a stored object proves no worker's place", "pipeline/remote.py", 'if entry.origin == "extracted":\n                self._proven', 'if True:\n                self._proven', f"{REMOTE} -k copy_of"),
    guard("snapshot is of the same server", COORDINATOR, " || ' ' || pg_postmaster_start_time()\"", "\"", f"{GUARDS} -k same_name"),
    guard("old_snapshot_threshold", COORDINATOR, "if row is not None and row[0] not in", "if False and row[0] not in", f"{GUARDS} -k threshold"),
    guard("one connection on a standby", COORDINATOR, "id=None if in_recovery else", "id=", f"{STANDBY} -k subtransactions"),
    guard("the snapshot stands after the last reading", "pipeline/audit.py", "    _require_no_mismatch(attempt, audited)\n    attempt.require_snapshot(works)\n", "    _require_no_mismatch(attempt, audited)\n", f"{IDENTITIES} -k last_reading"),
    guard("an audit that loses the snapshot", "pipeline/audit.py", "if isinstance(same, SnapshotLost):", "if False:", "tests/integration/test_audit.py"),
    guard("heap order", READER, "in_order = part.by_block and (known.where is None", "in_order = False and (known.where is None", ORDER),
]  # fmt: skip
NAMES = [
    guard("read is what was meant: observing", READER, "    _require_not_replaced(connection, asked.table.label, reads, frozenset(read), before)\n", "", f"{IDENTITIES} -k 'exchanged'"),
    guard("read is what was meant: extracting", READER, "        _require_not_replaced(connection, table.label, reads, oids(found))\n", "", f"{IDENTITIES} -k 'parent or place'"),
    guard("read again after letting go of locks", SNAPSHOT, "                    connection.execute(_LET_GO)\n                    before = frozenset()\n", "                    before = before - {reads.root}\n", f"{IDENTITIES} -k counted_twice"),
    guard("the second count is of the same table", READER, "seen, _ = answer_one(connection, question, expected, self.database, read - {expected.root})", "seen, _ = answer_one(connection, question, expected, self.database, frozenset(range(10**6)) - {expected.root})", f"{IDENTITIES} -k filtered"),
    guard("together: no other relation, and none missing", "source/postgres/together.py", "locked - before - toast != expected or ", "", "tests/integration/test_together.py -k something_else"),
    guard("together: the rows are the table's own", "source/postgres/together.py", "if total and not least_oid == greatest_oid == one.root:", "if False:", "tests/integration/test_together.py -k 'exchanged or empty_table'"),
    guard("together: rewritten under us", "source/postgres/together.py", "if file_now != asked.part.relfilenode:", "if False:", "tests/integration/test_together.py -k rewritten"),
    guard("together: no relation twice", "source/postgres/together.py", "if suits(asked, expected) and expected.root not in seen:", "if suits(asked, expected):", "tests/integration/test_together.py -k twice"),
    guard("none missing: the table", IDENTITY, "if reads.root not in found:", "if False:", f"{IDENTITIES} -k exchanged_for"),
    guard("none missing: a partition", IDENTITY, "if reads.all_below and not reads.below <= found:", "if False:", f"{IDENTITIES} -k 'parent and detach'"),
    guard("none more", IDENTITY, "if reads.exact and not found <= reads.below | {reads.root}:", "if False:", f"{IDENTITIES} -k 'parent or view'"),
    guard("none more: each statement for itself", IDENTITY, "found = locked - before - reads.toast", "found = locked - reads.toast", "tests/unit/test_pg_identity.py"),
    guard("children are not read with a table of another access method", CATALOGS, 'only=kind in "rf" and not relocated', "only=True and False", f"{IDENTITIES} -k access_method"),
    guard("none more: a partition attached for one statement", READER, "if reads.parent and not reads.exact:", "if False:", f"{IDENTITIES} -k attached_for"),
    guard("planning that locks other tables", SNAPSHOT, "reads[part.id].measured and reads[part.id].exact and self._plan_locks_others(part)", "False", f"{IDENTITIES} -k calls_a_function"),
    guard("the names' writers, if locks can't show them", CATALOGS, "of_names(member.detail, member.relation.oid in named)", "of_names(member.detail, False)", PRINT),
    guard("a zone that was sent what is not proven", REMEMBERED, 'elif since == "whole":', "elif False:", "tests/fault/test_landing_lost_snapshots.py"),
    guard("zero_damaged_pages", COORDINATOR, """if self._text("SELECT current_setting('zero_damaged_pages', true)") == "on":""", "if False:", f"{GUARDS} -k zero_damaged"),
    guard("the same transaction still stands", COORDINATOR, 'return self._text(f"SELECT {VIEW}") == self.exported.view', 'return bool(self._text("SELECT 1"))', f"{GUARDS} -k another_transaction"),
]  # fmt: skip
REASONS = [
    guard("schema changed", DETECT, "elif then.schema != info.fingerprint.schema:", "elif False:", f"{EXACT} -k 'test_a_day and column'"),
    guard("part defined otherwise", DETECT, "elif known is not None and known.part != part.fingerprint:", "elif False:", f"{SPARED} -k one_partition"),
    guard("finished: of this table", REMEMBERED, " and known.table_oid == info.oid and", " and", RESUME),
    guard("finished: dropped with the parts that hold it", "pipeline/resume.py", "self._own, self._parts = own, ()", "self._own = own", RESUME),
    guard("finished: parts of the same place and database", "state/inflight.py", " and _written_alike(part, whole)", "", RESUME),
    guard("finished: part defined otherwise", REMEMBERED, " and known.part == part.fingerprint\n", "\n", RESUME),
    guard("finished: stamp", REMEMBERED, "known.stamp == part.stamp and ", "", f"{DEAD} -k 'another_name and not goes'"),
    Guard("redefined: stamp", (
        Edit(SNAPSHOT, "present = {part.id: (part.fingerprint, part.stamp) ", "present = {part.id: part.fingerprint "),
        Edit(SNAPSHOT, "present.get(part.id) == (part.fingerprint, part.stamp) ", "present.get(part.id) == part.fingerprint "),
    ), f"{DEAD} -k 'another_name and goes'"),
    guard("guards of an earlier version", DETECT, "if _older_guards(known.fingerprint, info):", "if False:", f"{SPARED} -k release"),
    guard("config changed", DETECT, "if then.config != info.fingerprint.config:", "if False:", f"{LINES} -k rules_shape"),
    Guard("no proof", (
        Edit(DETECT, "if part.no_proof is not None:", "if False:"),
        Edit(ENTRIES, "provable=outcome.plan.part.no_proof is None", "provable=True"),
    ), f"{GUARDS} -k prints_otherwise"),
    Guard("no proof then", (
        Edit(DETECT, "if not known.mark.provable:", "if False:"),
    ), f"{GUARDS} -k once_more"),
    guard("marks say what was not provable", ENTRIES, "provable=outcome.plan.part.no_proof is None", "provable=True", f"{GUARDS} -k once_more"),
    guard("objects missing", "pipeline/observe.py", "if not stands:", "if False:", f"{EXACT} -k gone_is_written"),
    guard("other encoding", "pipeline/dispatch.py", "if entry.key not in otherwise_written", "if True", f"{GUARDS} -k written_otherwise"),
    guard("a proof is no reading", ENTRIES, "if outcome.read_at is not None:", "if False:", "tests/integration/test_audit.py -k 'once or same_lines'"),
    guard("audit", "pipeline/audit.py", "    if wrong:\n", "    if False:\n", f"{EXACT} -k audit_finds"),
]  # fmt: skip
NO_PROOF = [
    guard("text by json's own output", STATEMENTS, 'f"textin(json_out({_LINE.format(row)}))"', 'f"{_LINE.format(row)}::text"', f"{GUARDS} -k cast_from_json"),
    guard("native: a user's send function", TYPES, "if not 0 < self._sends.get(oid, 0) < FIRST_USER_OID:", "if False:", f"{ENCODER} -k send_function"),
    guard("native: a user's cast from an enum to json", TYPES, 'return "raw" if base.oid in self._to_json else "text"', 'return "text"', f"{NATIVE_LINES} -k every_kind"),
    guard("native: no newer server", NATIVE_ROWS, "if is_newer(version):", "if False:", f"{NEWER} -k says_so_once"),
    guard("native: the role may call the functions", NATIVE_ROWS, "if denied is not None:", "if False:", f"{ENCODER} -k may_not_call"),
    guard("native: rows of another shape", NATIVE_ROWS, "except (native.MalformedRows, _WrongMessage) as error:", "except ZeroDivisionError as error:", f"{ENCODER} -k 'under_the_snapshot or not_as_planned'"),
    guard("native: raw text by json's own output", "source/postgres/wire.py", 'f"textin(json_out(to_json({self.value})))"', 'f"to_json({self.value})::text"', f"{ENCODER} -k cast_from_json"),
    guard("native: a COPY without its end", NATIVE_ROWS, 'if state == "cut":', "if False:", "tests/fault/test_copy_stream.py -k not_whole"),
    guard("native: frozen rows are counted", NATIVE_ROWS, "marked, rows, encoder.marks)", "marked, rows, 0)", f"{EXACT} -k surgery"),
    guard("tid by its own input", STATEMENTS, "tidin(textout(format('(%s,0)', {block})))", "format('(%s,0)', {block})::tid", f"{GUARDS} -k cast_from_json"),
    guard("mode", PROOFS, 'if mode == "always" else None', "if False else None", f"{PROOF} -k modes"),
    guard("relocating extensions", PROOFS, 'if found else None', "if False else None", f"{PROOF} -k extensions"),
    guard("pending detach: no proof", PROOFS, "if pending else None", "if False else None", f"{CATALOG} -k pending"),
    guard("pending detach: its leaf is left out", RELATIONS, "for edge in self.edges(root) if not edge.pending)", "for edge in self.edges(root))", f"{CATALOG} -k pending"),
    guard("security labels", PROOFS, "if providers else None", "if False else None", f"{PROOF} -k labels"),
    guard("kind", PROOFS, 'if relation.kind != "r":', "if False:", f"{PROOF} -k usable_xmin"),
    guard("access method", PROOFS, "if detail.access_method != HEAP:", "if False:", f"{PROOF} -k usable_xmin"),
    guard("catalog tables", PROOFS, "if relation.oid < FIRST_USER_OID else None", "if False else None", f"{PROOF} -k catalog_table"),
    guard("filter", PROOFS, "return provable(where, kinds)", "return None", f"{PROOF} -k beyond_the_list"),
    guard("filter: casts of users", PROOFS, "if types.recast_builtins:", "if False:", f"{PROOF} -k between_built_ins"),
    guard("virtual column", PROOFS, 'if extracted.attribute.generated == "v":', "if False:", f"{PROOF} -k virtual"),
    guard("virtual column in a filter", PROOFS, 'None if a.generated == "v" else ', "", f"{PROOF} -k virtual"),
    guard("virtual column: through the parent", "source/postgres/family.py", "if virtual and (", "if False and (", f"{CATALOG} -k virtual"),
    guard("hash", PROOFS, "return types.unstable_as_text(extracted.attribute.type)", "return None", f"{PROOF} -k hash"),
    guard("hash: cast to text", TYPES, "if base in self._to_text:", "if False:", f"{PROOF} -k hash"),
    guard("types", PROOFS, "return types.unstable(extracted.attribute.type)", "return None", f"{PROOF} -k print_otherwise"),
    guard("types: cast to json", TYPES, "if kind.oid >= FIRST_USER_OID and kind.oid in self._to_json:", "if False:", f"{PROOF} -k print_otherwise"),
    guard("types: virtual column within", TYPES, 'if any(a.generated == "v"', 'if False and any(a.generated == "v"', f"{PROOF} -k virtual"),
    guard("types: built-ins off the list", TYPES, 'return f"the output of {kind.name} depends on more than the row"', "return None", f"{PROOF} -k 'print_otherwise or built_in'"),
    guard("types: users' own", TYPES, 'return f"{self._label(kind.oid)} is not a built-in, and its output function can be replaced"', "return None", f"{PROOF} -k print_otherwise"),
    guard("unruly collations", TYPES, "if attribute.collation in self._unruly_collations:", "if False:", f"{PROOF} -k nondeterministic"),
]  # fmt: skip


JOURNALS = [
    guard("journal: a doubt", DETECT, "facts is None or facts.doubt is not None or mark", "facts is None or mark", JUNIT),
    guard("journal: the same objects", DETECT, "mark.stamp == facts.stamp and mark.since", "mark.since", f"{TRAPS} -k 'unseen and disabled'"),
    guard("journal: nobody ran before it", DETECT, " and mark.since <= x1", "", f"{TRAPS} -k while_a_transaction"),
    guard("journal: floor", DETECT, " and facts.floor <= x1", "", f"{TRAPS} -k trimmed_away"),
    guard("journal: newest write", DETECT, " and facts.newest <= x1", "", f"{JOURNALED} -k 'noticed and update'"),
    guard("journal: x1 is xmin, not xmax", DETECT, "known.journal, known.point.xmin", "known.journal, known.point.xmax", f"{TRAPS} -k stays_open"),
    guard("journal: a bucket's end", JOURNAL, "(max(buckets) + 1) << BUCKET_SHIFT", "max(buckets) << BUCKET_SHIFT", f"{JOURNALED} -k recent_write"),
    guard("journal: not for a watched column", DETECT, "known is not None and info.watched is None and _journal", "known is not None and _journal", JUNIT),
    guard("journal: since, in another history", ENTRIES, " or not _same_ids(known.point, point)", "", JUNIT),
    guard("journal: since, of other objects", ENTRIES, " or then.stamp != mark.stamp", "", JUNIT),
    guard("journal: since, beyond the gap", ENTRIES, " and now.xmax - then.xmin < MAX_XID_GAP", "", JUNIT),
    guard("journal: a size that was measured", ENTRIES, " or not plan.part.measured:", ":", f"{TRAPS} -k measured"),
    guard("journal: its mode reads no other lines", PRINTS, 'if detect[0] == "journal" else detect', "if False else detect", f"{JOURNALED} -k later"),
    guard("journal: ancestors", JOURNAL, "for place in self.parents.get(waiting.pop(), ()):", "for place in self.parents.get(waiting.pop() * 0, ()):", f"{JOURNALED} -k 'any_level or ancestor or inherits'"),
    guard("journal: parents for a while", JOURNAL, "self.triggers.get(oid, ()), self.columns.get(oid, ())]", "self.triggers.get(oid, ())]", f"{JOURNALED} -k for_a_while"),
    Guard("journal: another parent for a while", (
        Edit(JOURNAL, "self.triggers.get(oid, ()), self.columns.get(oid, ())]", "self.triggers.get(oid, ())]"),
        Edit(JOURNAL, "return [oid, self.parents.get(oid, ()),", "return [oid,"),
    ), f"{JOURNALED} -k another_parent"),
    guard("journal: the triggers' writers", JOURNAL, "AND t.tgnargs = 0, t.xmin::text", "AND t.tgnargs = 0, ''", f"{TRAPS} -k 'unseen and disabled'"),
    guard("journal: the function's writer", OBJECTS, "(one.oid, one.xmin, one.digest)", "(one.oid, one.digest)", f"{TRAPS} -k 'unseen and function'"),
    Guard("journal: its tables' writers", (
        Edit(OBJECTS, "n.xmin::text, c.xmin::text, coalesce(y.xmin, c.xmin)::text", "n.xmin::text, '', ''"),
    ), f"{TRAPS} -k 'unseen and (rule or journal)'"),
    guard("journal: its schema's writer", OBJECTS, "n.xmin::text, c.xmin::text,", "'', c.xmin::text,", f"{TRAPS} -k 'unseen and schema'"),
    guard("journal: fires in every session", OBJECTS, 'self.enabled == "A" and ', "", f"{TRAPS} -k 'as_it_was_made and replicas'"),
    guard("journal: fires for every statement", OBJECTS, "return self.plain and ", "return ", f"{TRAPS} -k 'as_it_was_made and (condition or columns)'"),
    guard("journal: fires for every kind of statement", OBJECTS, "self.type & ~_BEFORE == events and ", "", f"{TRAPS} -k 'as_it_was_made and events'"),
    guard("journal: calls its own function", OBJECTS, " and self.function == function", "", f"{TRAPS} -k 'as_it_was_made and another'"),
    guard("journal: the function is Floodmark's", OBJECTS, "for one in self.functions if one.digest in KNOWN_FUNCTIONS[one.name]]", "for one in self.functions]", f"{TRAPS} -k 'as_it_was_made and function'"),
    guard("journal: its own triggers", OBJECTS, "if guarding != _ON_THE_JOURNAL.keys() or len(on_it) != len(guarding):", "if False:", f"{TRAPS} -k 'as_it_was_made and (guard or discards)'"),
    guard("journal: its tables as they were made", OBJECTS, 'if any(one.shaped or (one.kind, one.persistence) != ("r", "p") for one in self.relations):', "if False:", f"{TRAPS} -k 'as_it_was_made and (rule or inherited or unlogged)'"),
    guard("journal: a floor", JOURNAL, "if len(lowest) != 1:", "if False:", f"{TRAPS} -k 'as_it_was_made and floor'"),
    guard("journal: extensions that write past triggers", OBJECTS, "if self.unseen_writers:", "if False:", f"{TRAPS} -k extension"),
    guard("journal: subscriptions", JOURNAL, "if self.tables.subscribed & set(above):", "if False:", f"{TRAPS} -k 'subscriber and False'"),
    guard("journal: subscriptions that are gone", OBJECTS, "functions, self.subscribed_ever]", "functions]", f"{TRAPS} -k 'subscriber and True'"),
    guard("journal: read is what was meant", JOURNAL, "replaced_because(ExpectedReads(root), oids(found), before) is not None or ", "", f"{TRAPS} -k as_the_snapshot"),
    guard("journal: rewritten under us", JOURNAL, " or any(one.rewritten for one in found)", "", f"{TRAPS} -k as_the_snapshot"),
    guard("journal: hidden rows", OBJECTS, "if any(one.hides_rows for one in self.relations):", "if False:", f"{TRAPS} -k role_that_may"),
    guard("journal: locks are let go", JOURNAL, '"ROLLBACK TO SAVEPOINT journal; RELEASE SAVEPOINT journal"', '"RELEASE SAVEPOINT journal"', f"{TRAPS} -k no_lock"),
]  # fmt: skip

SUMMARIES = [
    Guard("summaries: nobody had an id at the base", (
        Edit(BLOCKS, " and base.next_xid <= x1 else None", " else None"),
        Edit(BLOCKS, "if one.next_xid <= point.xmin and", "if"),
    ), f"{WALTRAPS} -k stays_open"),
    guard("summaries: the checkpoint's counter, not the snapshot's xmax", SNAPSHOT, "wal=facts.checkpoint.base)", "wal=replace(facts.checkpoint.base, next_xid=xmax))", f"{WALTRAPS} -k stays_open"),
    guard("summaries: the remembered base serves the chunk", BLOCKS, " and base.next_xid <= x1 else None", " else None", BUNIT),
    guard("summaries: x1 is xmin, not xmax", BLOCKS, "base, x1 = known.point.wal, known.point.xmin", "base, x1 = known.point.wal, known.point.xmax", BUNIT),
    guard("summaries: the base is of a checkpoint", CHECKPOINTS, "lsn_text(self.redo), self.next_xid)", "lsn_text(self.redo), 3)", f"{WALTRAPS} -k stays_open"),
    guard("summaries: listed blocks", BLOCKS, "return number == len(ranges) or (not chunk.open and ranges[number][0] >= stop)", "return True", f"{WALPROOF} -k 'each_kind and changes0'"),
    guard("summaries: the last chunk has no end", BLOCKS, "(not chunk.open and ranges[number][0] >= stop)", "ranges[number][0] >= stop", BUNIT),
    guard("summaries: limit blocks", BLOCKS, "if limit is not None and (chunk.open or limit <= stop):", "if False:", f"{WALTRAPS} -k vacuum_that_truncates"),
    guard("summaries: limits and the last chunk", BLOCKS, "limit is not None and (chunk.open or limit <= stop)", "limit is not None and limit <= stop", BUNIT),
    guard("summaries: a limit at the chunk's end", BLOCKS, "limit <= stop)", "limit < stop)", BUNIT),
    guard("summaries: a doubt", BLOCKS, "if answer.doubt is not None or stop is None:", "if stop is None:", f"{WALTRAPS} -k 'were_removed or damaged'"),
    guard("summaries: logged tables", BLOCKS, " or not chunk.part.logged or", " or", f"{WALTRAPS} -k unlogged_table"),
    guard("summaries: not for a watched column", BLOCKS, " or chunk.question.watched is not None or known is None:", " or known is None:", BUNIT),
    guard("summaries: a base of the same history", BLOCKS, " and same_history(mark.point.lineage, point.lineage)}", "}", BUNIT),
    guard("summaries: a base of the same timeline", BLOCKS, " and one.timeline == point.wal.timeline]", "]", BUNIT),
    guard("summaries: a remembered base serves", BLOCKS, "if one.next_xid <= point.xmin and", "if", BUNIT),
    guard("summaries: a size that was measured", ENTRIES, "return point if all(part.measured for part in parts) else replace(point, wal=UNSET)", "return point", f"{WALTRAPS} -k measured"),
    guard("summaries: no gap", CHECKPOINTS, "one for one in known if one.start <= at < one.end", "one for one in known if at < one.end", f"{WALTRAPS} -k removed"),
    guard("summaries: as far as the snapshot", CHECKPOINTS, "if active is not None and self.xmax <= active and", "if active is not None and", f"{WALPROOF} -k after_the_last"),
    guard("summaries: who was active at the checkpoint", CHECKPOINTS, "self.xmax <= active and", "self.xmax <= checkpoint.next_xid and", f"{WALTRAPS} -k outlives_the_last"),
    guard("summaries: writes without an id", CHECKPOINTS, " and not self.unseen_writers:", ":", f"{WALTRAPS} -k surgery"),
    guard("summaries: their timeline", CHECKPOINTS, "if one.timeline == base.timeline]", "]", SUNIT),
    guard("summaries: ids of 64 bits", CHECKPOINTS, "return wide if wide <= following else wide - 2**_XID_BITS", "return wide", SUNIT),
    guard("summaries: a database that was copied", WALS, "if file == 0:", "if False:", f"{WALTRAPS} -k moved_or_copied"),
]  # fmt: skip


def _facts(name: str, old: str, new: str, tests: str = PRINT, file: str = TYPES) -> Guard:
    return guard(f"fingerprint: {name}", file, old, new, tests)


FINGERPRINT = [
    _facts("server", "return version", "return 0", "tests/unit/test_pg_fingerprint.py", file=PRINTS),
    _facts("table oid, kind, access method, persistence", "return shape, attributes", "return attributes", file=PRINTS),
    _facts("access method", "relation.kind, detail.access_method,", "relation.kind,", file=PRINTS),
    _facts("persistence", "detail.access_method, detail.persistence)", "detail.access_method)", file=PRINTS),
    _facts("attributes", "return shape, attributes, labels", "return shape, labels", file=PRINTS),
    _facts("labels", "return shape, attributes, labels", "return shape, attributes", PROOF, file=PRINTS),
    _facts("a leaf's own facts", "return fingerprint.table_definition(_facts(member, context, named), above)", "return above", file=CATALOGS),
    _facts("the facts above a leaf", "(above.schema, above.stamp)", '("", "")', "tests/unit/test_pg_fingerprint.py", file=PRINTS),
    _facts("through the parent: its members", "*(_facts(member, context, named) for member in family.partitions)", "", file=CATALOGS),
    _facts("through the parent: bounds", "(member.oid, member.bound)", "member.oid", file=PRINTS),
    _facts("names' own xmin", "coalesce(y.xmin, c.xmin)::text", "''", file=RELATIONS),
    _facts("schemas' own xmin", "c.xmin)::text, n.xmin::text", "c.xmin)::text, ''", file=RELATIONS),
    _facts("extensions of types and casts", "labels.get(oid, ()), casts, owners", "labels.get(oid, ()), casts"),
    _facts("types", "[types.facts(oid) for oid in sorted(reachable)]", "[]", file=PRINTS),
    _facts("attributes' own xmin", "a.attmissingval::text, a.xmin::text", "a.attmissingval::text, ''"),
    _facts("types' own xmin", "0), t.xmin::text,", "0), '',"),
    _facts("ranges' own xmin", "coalesce(r.xmin, m.xmin)::text", "''"),
    _facts("labels' own xmin", "enumlabel, xmin::text FROM pg_enum", "enumlabel, '' FROM pg_enum"),
    _facts("extensions' own xmin", "extversion, oid, xmin::text", "extversion, oid, ''", file=RELATIONS),
    _facts("composites' attributes", "return kind, self._attributes.get(kind.relation, ()), ", "return kind, "),
    _facts("enum labels", "self._labels.get(oid, ()), casts", "casts"),
    _facts("casts", "self._labels.get(oid, ()), casts, owners", "self._labels.get(oid, ()), owners"),
    _facts("columns and masks", "[OUTPUT_VERSION, chosen, where, detect, key, encoding_digest]", "[OUTPUT_VERSION, where, detect, key, encoding_digest]", file=PRINTS),
    _facts("filter", "chosen, where, detect, key, encoding_digest]", "chosen, detect, key, encoding_digest]", file=PRINTS),
    _facts("mode", "where, detect, key, encoding_digest]", "where, key, encoding_digest]", file=PRINTS),
    _facts("mask key", "detect, key, encoding_digest]", "detect, encoding_digest]", file=PRINTS),
    _facts("format", "key, encoding_digest]", "key]", file=PRINTS),
]  # fmt: skip
_SEEN_ELSEWHERE = {
    "constraint_exclusion": f"{IDENTITIES} -k a_setting",
    "gin_fuzzy_search_limit": f"{ORDER} -k gin",
    "row_security": f"{GUARDS} -k row_level",
    "max_parallel_workers_per_gather": f"{ORDER} -k whoever_else",
    "synchronize_seqscans": f"{ORDER} -k whoever_else",
    "enable_tidscan": f"{ORDER} -k without_the_rest",
    "transform_null_equals": f"{ORDER} -k changes_what",
    "standard_conforming_strings": f"{ORDER} -k changes_what",
    "quote_all_identifiers": f"{ORDER} -k changes_what",
    "search_path": f"{ORDER} -k changes_what",
}
# jit is off for speed alone; lc_monetary has one value on servers without locales, as the tests' are; and no
# type's output hangs on xmlbinary, only functions that make xml of other values.
_UNPROVOKED = ("jit", "lc_monetary", "xmlbinary")
PINNED = [
    guard(
        f"pinned: {name}", CONNECT, f'    "{name}": "{value}",\n', "",
        _SEEN_ELSEWHERE.get(name, f"{LINES} -k no_setting"),
    )
    for name, value in _PINNED.items()
    if name not in _UNPROVOKED
]  # fmt: skip
PINNED.append(
    guard(
        "pinned: pg_temp comes last", CONNECT, '"pg_catalog, pg_temp"', '"pg_catalog"', f"{GUARDS} -k temporary_tables"
    )
)
RANGES, SQL_SNAPSHOT, SQLITE = (f"source/sql/{name}.py" for name in ("ranges", "snapshot", "sqlite"))
SQL_CHUNKS, SQL_RANGES = "tests/contract/test_sql_chunks.py", "tests/property/test_sql_ranges.py"
SQL = [
    guard("sql: a range begins with its first key", RANGES, "more, since = (column < value, column <= value) if key.descending else (column > value, column >= value)", "more, since = (column < value, column < value) if key.descending else (column > value, column > value)", SQL_RANGES),
    guard("sql: a range ends before the next one's first key", RANGES, "less, up_to = (column > value, column >= value) if key.descending else (column < value, column <= value)", "less, up_to = (column >= value, column >= value) if key.descending else (column <= value, column <= value)", SQL_RANGES),
    guard("sql: rows are counted while ranges are found", SQL_SNAPSHOT, "if expected is not None and expected != lines:", "if False:", f"{SQL_CHUNKS} -k collation_hides"),
    guard("sql: steps of a grid are powers of two", RANGES, "step = _power_of_two(per_range * span // max(1, rows))", "step = max(1, per_range * span // max(1, rows))", SQL_RANGES),
    guard("sql: a changed definition", SQL_SNAPSHOT, "now.oid != then.oid or now.fingerprint != then.fingerprint:", "now.oid != then.oid:", "tests/contract/test_source.py -k 'definition_that_changed and reflected'"),
    guard("sql: the collation of SQLite's key", SQLITE, "collation=collation, ", "", f"{SQL_CHUNKS} -k tells_apart"),
]  # fmt: skip
CONTRACT, CONTRACT_UNIT = "tests/integration/test_contract.py", "tests/unit/test_contract_file.py"
SELECTION = "source/selection.py"
CONTRACTS = [
    guard("contract: its tables have rules", SELECTION, 'if terms is None or terms.columns == "include":', "if True:", f"{CONTRACT} -k stays_until"),
    guard("contract: columns of PostgreSQL", "source/postgres/columns.py", "approved = (a for a in kept if rule.columns.approves(a.name, types.attributes(a.type)))", "approved = kept", f"{CONTRACT} -k stays_until"),
    guard("contract: columns of other databases", "source/sql/tables.py", "chosen = tuple(one for one in allowed if rule.columns.approves(one.name))", "chosen = allowed", f"{CONTRACT} -k sqlite"),
    guard("contract: tables", SELECTION, "TableChoice(tuple(sorted(narrowed - unapproved)),", "TableChoice(tuple(sorted(narrowed)),", f"{CONTRACT} -k stays_until"),
    guard("contract: only behind a mask", "config/settings.py", "return not column.masked and", "return", f"{CONTRACT} -k mask"),
    guard("contract: attributes of a composite type", "config/settings.py", " and set(attributes) <= set(column.attributes)", "", f"{CONTRACT} -k composite"),
    guard("contract: a table that fails", "contract/apply.py", "    if failed:\n", "    if False:\n", f"{CONTRACT} -k failing_table"),
    guard("contract: no column is left", "contract/apply.py", "if info.unapproved and not info.columns:", "if False:", f"{CONTRACT} -k no_column_is_left"),
    guard("contract: of this database", "pipeline/terms.py", "if named is not None and named != identity.database:", "if False:", f"{CONTRACT} -k another_database"),
    guard("contract: a section without keys", "config/document.py", "if inner is None and schema.is_struct(kinds[key]):", "if False:", f"{CONTRACT_UNIT} -k section"),
]  # fmt: skip


EVERY = [
    *LINEAGES,
    *POINTS,
    *COUNTS,
    *FILES,
    *NAMES,
    *REASONS,
    *NO_PROOF,
    *JOURNALS,
    *CONTRACTS,
    *SUMMARIES,
    *FINGERPRINT,
    *PINNED,
    *SQL,
]


def main(words: list[str]) -> int:
    trust = "--trust" in words
    words = [word for word in words if word != "--trust"]
    chosen = [one for one in EVERY if not words or any(word in one.name for word in words)]
    if not trust and _run(Path("src"), sorted({one.tests for one in chosen})):
        print("the tests are red with every guard in place")
        return 1
    with ThreadPoolExecutor(PARALLEL) as pool:
        outcomes = list(pool.map(_outcome, chosen))
    wrong = [(one.name, why) for one, why in zip(chosen, outcomes, strict=True) if why]
    print(f"{len(chosen) - len(wrong)} of {len(chosen)} guards are noticed when they are taken out")
    for name, why in wrong:
        print(f"  {name}: {why}")
    return bool(wrong)


def _outcome(one: Guard) -> str | None:
    """What is wrong with a guard's tests, or None."""
    with tempfile.TemporaryDirectory(prefix="floodmark-guards-") as folder:
        shutil.copytree(ROOT / "src", Path(folder, "src"), ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "migrations", Path(folder, "migrations"))
        for edit in one.edits:
            path = Path(folder, "src", "floodmark", edit.file)
            text = path.read_text()
            if text.count(edit.old) != 1:
                return f"{edit.file} holds {text.count(edit.old)} times: {edit.old}"
            path.write_text(text.replace(edit.old, edit.new))
        code = _run(Path(folder, "src"), [one.tests])
    print({0: "STILL GREEN", 1: "red"}.get(code, f"exit code {code}"), "-", one.name, flush=True)
    return None if code == 1 else f"{one.tests} ended with {code}"


def _run(source: Path, tests: list[str]) -> int:
    """pytest's exit code (0: all green, 1: some red) with the package taken from there."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / source)}
    for arguments in tests:
        command = f"exec {sys.executable} -m pytest -q -x -p no:cacheprovider {arguments}"
        code = subprocess.run(command, shell=True, cwd=ROOT, env=environment, capture_output=True).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
