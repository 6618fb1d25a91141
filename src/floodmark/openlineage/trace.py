"""The facts of a run that events tell, and their collector. Nothing here needs OpenLineage's client."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct

from floodmark.config import OpenLineageSettings
from floodmark.errors import FloodmarkError, Stopped
from floodmark.events import Event, RunEnded, RunStarted
from floodmark.pipeline.publish import RunResult
from floodmark.state.manifest import Manifest
from floodmark.wording import iso_time

State = Literal["START", "COMPLETE", "FAIL", "ABORT"]


class RunTrace(Struct, frozen=True, kw_only=True):
    """A moment of a run: its start or its end. `time` is ISO 8601 in UTC.

    `source` is the source's label, and `dialect` its kind. `manifest` is set if the run committed, and `problem` if it
    failed.
    """

    state: State
    time: str
    run_id: str
    namespace: str
    job: str
    source: str = ""
    manifest: Manifest | None = None
    manifest_key: str | None = None
    problem: str | None = None


class TraceCollector:
    """An observer that emits the start of a run as soon as its id is known, and later its end."""

    def __init__(self, settings: OpenLineageSettings, database: str, emit: Callable[[RunTrace], None]) -> None:
        self._settings, self._database, self._emit = settings, database, emit
        self._began = iso_time(datetime.now(UTC))
        self._run_id = self._source = ""
        self.result: RunResult | None = None

    def observe(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._source, self._database = event.source, event.database or self._database
            self._start(event.run_id)
        elif isinstance(event, RunEnded):
            self._start(event.ended.run_id)

    def end(self, error: BaseException | None) -> None:
        """Emit the end of the run. A run without an id did not begin, and nothing is told of it."""
        if not self._run_id:
            return
        if self.result is not None:
            self._emit(self._trace("COMPLETE", result=self.result))
        elif isinstance(error, Stopped | KeyboardInterrupt):
            self._emit(self._trace("ABORT"))
        else:
            self._emit(self._trace("FAIL", problem=_problem(error)))

    def _start(self, run_id: str) -> None:
        if self._run_id:
            return
        self._run_id = run_id
        self._emit(self._trace("START", time=self._began))

    def _trace(
        self, state: State, time: str | None = None, result: RunResult | None = None, problem: str | None = None
    ) -> RunTrace:
        return RunTrace(
            state=state,
            time=time or iso_time(datetime.now(UTC)),
            run_id=self._run_id,
            namespace=self._settings.namespace,
            job=self._settings.job or self._database or "unknown",
            source=self._source,
            manifest=None if result is None else result.manifest,
            manifest_key=None if result is None else result.manifest_key,
            problem=problem,
        )


def _problem(error: BaseException | None) -> str:
    """Return an error's sentence. An error that is not ours can hold anything, so only its class is shown."""
    return error.sentence if isinstance(error, FloodmarkError) else f"internal error: {type(error).__qualname__}"
