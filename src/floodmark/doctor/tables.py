"""Checks of a run's tables: readable, changes provable, size. They judge structs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from floodmark.config import ContractTerms, Settings
from floodmark.doctor.finding import Finding, ok, problem, warning
from floodmark.errors import EXIT_PARTIAL, SourceError
from floodmark.model import ContractDrift, Point
from floodmark.observed import TableInfo
from floodmark.pipeline.detect import plan_table
from floodmark.pipeline.plans import Policy
from floodmark.pipeline.remembered import Remembered
from floodmark.wording import plural

_SHOWN = 10
_ASKED_FOR = "detect: always"


def check_readable(tables: Sequence[TableInfo], stateless: bool) -> Iterator[Finding]:
    """Check rights, row-level security and a standby's unlogged tables. Each denied table comes with a fix."""
    denied = [(table.table.label, table.denied) for table in tables if table.denied is not None]
    if not tables:
        fix = "Check tables.include, tables.exclude and the database's name; grant USAGE on the schema."
        yield warning("rights", "no table is selected", fix)
    elif not denied:
        yield ok("rights", f"{plural(len(tables), 'table')} may be read, with all rows")
    else:
        what = (
            "so a run without state does not start"
            if stateless
            else f"a run reports them as failed (exit code {EXIT_PARTIAL})"
        )
        names = ", ".join(label for label, _ in denied)
        found = f"{len(denied)} of {plural(len(tables), 'table')} can't be read ({names}): {what}"
        fixes = [f"{label}: {why}" for label, why in denied]
        fixes.append("For all tables, including future ones: GRANT pg_read_all_data TO the role.")
        yield problem("rights", found, "\n".join(fixes), SourceError.exit_code)


def check_proof(tables: Sequence[TableInfo], advice: str) -> Iterator[Finding]:
    """Report tables whose changes can't be proven, and the cause. `advice` is what the database's user can do."""
    why = {table.table.label: _no_proof(table) for table in tables if table.denied is None}
    without = {label: reason for label, reason in why.items() if reason is not None and reason != _ASKED_FOR}
    asked = sum(reason == _ASKED_FOR for reason in why.values())
    if not without:
        more = f"; {asked} are read in full on purpose ({_ASKED_FOR})" if asked else ""
        yield ok("proof", f"change can be proven for {len(why) - asked} of {plural(len(why), 'table')}{more}")
        return
    shown = [f"{label}: {reason}" for label, reason in list(without.items())[:_SHOWN]]
    if len(without) > _SHOWN:
        shown.append(f"and {len(without) - _SHOWN} more; `floodmark plan` lists all")
    head = f"read in full in each run, and written only if they differ: {len(without)} of {plural(len(why), 'table')}"
    found = "\n".join([head, *shown])
    yield warning("proof", found, f"That is safe but slower. {advice}")


def check_journal(tables: Sequence[TableInfo]) -> Iterator[Finding]:
    """Report tables with `detect: journal` whose journal can't be used. Without such tables there is nothing to say."""
    using = [table for table in tables if any(part.journal is not None for part in table.parts)]
    without = [(table.table.label, table.journal_doubt) for table in using if table.journal_doubt is not None]
    if not using:
        return
    if not without:
        yield ok("journal", f"it can prove that no row changed in {plural(len(using), 'table')}")
        return
    shown = [f"{label}: {doubt}" for label, doubt in without[:_SHOWN]]
    if len(without) > _SHOWN:
        shown.append(f"and {len(without) - _SHOWN} more; `floodmark plan` lists all")
    head = f"not usable, so each run counts the rows: {len(without)} of {plural(len(using), 'table')}"
    fix = "Run the command that is named, as the owner of the tables; see docs/change-detection.md."
    yield warning("journal", "\n".join([head, *shown]), fix)


def check_contract(drift: Sequence[ContractDrift], terms: ContractTerms) -> Finding:
    """Report what differs from the contract."""
    if not drift:
        return ok("contract", f"{terms.file}: {plural(len(terms.contract.tables), 'table')}, no difference")
    shown = [f"{one.label}: {one.detail}" for one in drift[:_SHOWN]]
    if len(drift) > _SHOWN:
        shown.append(f"and {len(drift) - _SHOWN} more; `floodmark contract check` lists all")
    head = f"{terms.file}: {plural(len(drift), 'difference')}"
    fix = "To approve one: floodmark contract accept TABLE, or TABLE.COLUMN."
    return warning("contract", "\n".join([head, *shown]), fix)


def check_size(tables: Sequence[TableInfo], settings: Settings, point: Point) -> Iterator[Finding]:
    total = sum(part.total_bytes for table in tables for part in table.parts)
    policy = Policy(settings.chunk_bytes, grows=settings.chunks_grow)
    chunks = sum(len(plan_table(table, Remembered(), policy, point).chunks) for table in tables if table.denied is None)
    counts = plural(len(tables), "table"), plural(chunks, "chunk")
    yield ok("size", f"{counts[0]}, about {bytes_text(total)} in the database, {counts[1]} at first")


def same_in_lower_case(names: Sequence[str]) -> list[str]:
    """Return the names that differ from another only by case."""
    many = Counter(name.lower() for name in names)
    return [name for name in names if many[name.lower()] > 1]


def _no_proof(table: TableInfo) -> str | None:
    return next((part.no_proof for part in table.parts if part.no_proof is not None), None)


def bytes_text(number: float) -> str:
    """Return a number of bytes for a person, in units of a thousand."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
