"""What a manifest has to say: the truth of each entry's own moment, and proofs of all that nothing touched."""

from __future__ import annotations

from collections import Counter

from fix_oracle import Photograph, fault
from fix_runs import Nightly
from fix_service import UNPROVABLE
from floodmark.model import TableEntry
from floodmark.pipeline.job import MAX_ATTEMPTS
from floodmark.state.manifest import Manifest


class Judge:
    """Keeps the photographs that entries of a job's last manifest are of, and holds each next manifest against them."""

    def __init__(self, job: Nightly, told: Counter[str]) -> None:
        self._job, self._told = job, told
        self._photographs: dict[str, Photograph] = {}

    @property
    def _last(self) -> Manifest:
        assert self._job.last is not None
        return self._job.last

    # What happens between runs, and during them

    def add(self, photograph: Photograph) -> None:
        self._photographs[photograph.moment] = photograph

    def touch(self, labels: set[str]) -> None:
        """These tables may differ from every photograph by now."""
        for photograph in self._photographs.values():
            photograph.touched |= labels

    def interrupt(self) -> None:
        """Nothing has to be proven through a restart or a crash."""
        for photograph in self._photographs.values():
            photograph.calm = False

    # Demands

    def to_be_proven(self, dsn: str) -> set[str]:
        """The tables that nothing touched since they were last read or proven there, if nothing was open then."""
        tables = () if self._job.last is None else self._job.last.tables
        return {entry.table.label for entry in tables if self._is_untouched(entry, dsn)}

    def _is_untouched(self, entry: TableEntry, dsn: str) -> bool:
        photograph, label = self._photographs.get(entry.as_of or ""), entry.table.label
        return (
            photograph is not None
            and photograph.calm
            and photograph.dsn == dsn
            and entry.status != "dropped"
            and label not in UNPROVABLE
            and not photograph.touched & {"*", label}
        )

    def require_proven(self, expected: set[str], journaled: bool = False) -> None:
        """Require a proof of these tables, and by the journal if all of them are `journaled`."""
        moment = self._last.source.snapshot.taken_at
        for entry in self._last.tables:
            if entry.table.label in expected and entry.as_of == moment:
                found = (entry.status, entry.reason.code)
                codes = ("journal",) if journaled else ("unchanged", "journal")
                assert found[0] == "unchanged" and found[1] in codes, f"{entry.table.label}: {entry.reason}"
                self._told["had to be proven"] += 1

    def require_truth(self, selected: set[str], held: set[str], attempts: int) -> None:
        """Each entry holds the lines of its own moment. Those that the run was to read (`selected`, or all) are of the
        run's moment, but for tables that were `held`, and any that was lost with the last of so many attempts."""
        now = self._photographs[self._last.source.snapshot.taken_at]
        entries = {entry.table.label: entry for entry in self._last.tables if entry.status != "dropped"}
        read = selected or now.labels
        assert read <= entries.keys() and (selected or read == entries.keys()), entries.keys() ^ read
        for label, entry in entries.items():
            if label in read:
                self._require_done(entry, may_fail=label in held or attempts >= MAX_ATTEMPTS)
            if entry.as_of is not None:
                self._require_lines(entry)
        kept = {entry.as_of for entry in self._last.tables}
        self._photographs = {moment: one for moment, one in self._photographs.items() if moment in kept}

    def _require_done(self, entry: TableEntry, *, may_fail: bool) -> None:
        self._told[f"outcome {entry.status}: {entry.reason.code}"] += 1
        if entry.status == "failed" and may_fail:
            return
        self._told["tables"] += 1
        assert entry.status in ("extracted", "unchanged"), f"{entry.table.label}: {entry.status}: {entry.reason}"
        assert entry.as_of == self._last.source.snapshot.taken_at

    def _require_lines(self, entry: TableEntry) -> None:
        label, photograph = entry.table.label, self._photographs[entry.as_of or ""]
        if label in UNPROVABLE and photograph.disturbed:
            return
        assert label in photograph.tables, f"{label} was not there at {entry.as_of}"
        told = fault(entry, self._photographs, self._job.landed(label))
        assert told is None, told
