"""A run with an act of another session at one chosen boundary between its statements, and what must hold after it.

A `Case` says which act comes where in which kind of run. A `Stage` plays cases on one server, or through its standby:
the boundaries are those that a run of the same kind shows when nobody acts, counted on the wire.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Self

from msgspec import Struct, convert

from fix_boundary_acts import ACTS, NEWER, ODD_ROW_BACK, ODD_ROW_GONE, OLDER, Act
from fix_boundary_scene import Scene, Theatre
from fix_postgres import Cluster
from floodmark.errors import ConfigError, FloodmarkError, SourceError, Stopped
from floodmark.events import ChunkDone, Event, Retried
from floodmark.stop import Stop

# before: the act comes before the statement. after: after it. twice: the act and its undoing come before it. around:
# the act comes before it; its undoing comes after it, or later, as soon as no lock of the run is in the way.
Place = Literal["before", "after", "twice", "around"]
# One worker reads, so that a run shows the same statements in the same order each time; in a parallel run it does not.
KINDS = ("first", "second", "only", "resumed", "unshared", "failing", "parallel")
ONLY = ("one", "picked", "split", "through", "here.pair", "near.odd")
LOCKED = ("two",)  # in a failing run
_LOCK_TIMEOUT = {"lock_timeout": 0.02}  # seconds
_CHUNKS_BEFORE_STOP = 7
_SCENES_LAST = 20  # cases: tables grow a little with each, and should stay one chunk


class Case(Struct, frozen=True, array_like=True):
    """One act at one boundary. `name` is printed, and `named` makes a case of it again."""

    version: int
    server: str  # primary or standby
    kind: str
    act: str
    place: Place
    number: int

    @property
    def name(self) -> str:
        return f"pg{self.version}-{self.server}-{self.kind}-{self.act}-{self.place}-{self.number}"

    @classmethod
    def named(cls, name: str) -> Self | None:
        """The case of this name; None if it is no case's name."""
        parts = name.split("-")
        if len(parts) != 6 or parts[3] not in ACTS or not parts[0].startswith("pg"):
            return None
        version, server, kind, act, place, number = parts
        return convert((int(version[2:]), server, kind, act, place, int(number)), cls)


class Stage:
    """Plays cases on a primary, or on a standby while others act on its primary. `told` counts what happened."""

    def __init__(self, primary: Cluster, folder: Path, told: Counter[str], standby: Cluster | None = None) -> None:
        self.told = told
        self._server = "primary" if standby is None else "standby"
        self._theatre = Theatre(primary, standby, folder, told)
        self._scene: Scene | None = None
        self._played = 0
        self._known = False  # whether a run has landed all that the database holds now
        self._counted: dict[tuple[str, str], list[str]] = {}

    def close(self) -> None:
        self._leave()
        self._theatre.close()

    def statements(self, kind: str, act: str) -> list[str]:
        """The statements of a run of a kind while nobody acts, in their order; the first has number 1."""
        key = (kind, ACTS[act].ready)
        if key not in self._counted:
            texts: list[str] = []
            scene = self._prepared(kind, ACTS[act])
            faults = self._acted(
                scene, kind, lambda when, number, text: texts.append(text) if when == "before" else None
            )
            assert not faults, f"while nobody acts: {faults}"
            self._counted[key] = texts
        return self._counted[key]

    def cases(self, kind: str, act: str) -> list[Case]:
        """Every place of an act in a run of a kind. Statements do not overlap, so what comes after one comes before
        the next: only after the last is a place of its own."""
        last = len(self.statements(kind, act))
        places: tuple[Place, ...] = ("before", "twice", "around") if ACTS[act].can_be_undone else ("before",)
        every = [self.case(kind, act, place, number) for place in places for number in range(1, last + 1)]
        return [*every, self.case(kind, act, "after", last)]

    def case(self, kind: str, act: str, place: Place, number: int) -> Case:
        return Case(self._theatre.primary.version, self._server, kind, act, place, number)

    def play(self, case: Case) -> list[str]:
        """Play a case, and return all that is wrong after it; nothing if all is well."""
        act = ACTS[case.act]
        scene = self._prepared(case.kind, act)
        play = _Play(case, act, scene, self.told)
        faults = self._acted(scene, case.kind, play.at)
        self.told["cases"] += 1
        self.told["acts whose boundary was not reached"] += not play.reached
        if case.place == "around":
            play.undo()
        scene.execute(ODD_ROW_GONE)
        faults += [f"in the quiet run after it: {fault}" for fault in self._run(scene)]
        self._known = not play.to_undo
        play.undo()
        self._played += 1
        if faults or play.to_undo or act.spoils or self._played >= _SCENES_LAST:
            self._leave()
        return [f"{case.name}: {fault}" for fault in faults]

    # What comes before

    def _prepared(self, kind: str, act: Act) -> Scene:
        """A scene with all that a run of this kind finds: what earlier runs landed, and what changed since."""
        if self._scene is not None and self._scene.ready != act.ready:
            self._leave()
        if self._scene is None:
            self._scene = self._theatre.scene(act.ready)
        scene = self._scene
        scene.execute(ODD_ROW_BACK)
        if kind in ("first", "resumed"):
            scene.forget()
        if kind == "resumed":
            self._stop_a_run(scene)
        elif kind != "first" and not self._known:
            self._require(scene)
        self._known = False
        if kind != "first":
            self._age(scene, kind)
        return scene

    def _age(self, scene: Scene, kind: str) -> None:
        """Leave watermarks of different age: the older ones are of tables that have changed since."""
        for table in OLDER:
            scene.execute(f"UPDATE ONLY {table} SET v = v || 'u' WHERE id % 20 = 5")
        if kind == "failing":
            with scene.locked(*OLDER):
                self._require(scene, **_LOCK_TIMEOUT)
        elif kind != "resumed":
            self._require(scene, only=NEWER)

    def _stop_a_run(self, scene: Scene) -> None:
        stop, done = Stop(), Counter[str]()

        def observe(event: Event) -> None:
            done["chunks"] += isinstance(event, ChunkDone)
            if done["chunks"] == _CHUNKS_BEFORE_STOP:
                stop.ask(2)

        try:
            scene.run(observe, stop)
        except Stopped:
            return
        raise AssertionError("the run was not stopped")

    def _require(self, scene: Scene, **changes: Any) -> None:
        faults = self._run(scene, **changes)
        assert not faults, f"before anybody acted: {faults}"

    def _leave(self) -> None:
        if self._scene is not None:
            self._scene.close()
        self._scene, self._played, self._known = None, 0, False

    # Runs

    def _acted(self, scene: Scene, kind: str, act: Callable[[str, int, str], None]) -> list[str]:
        """The run that is acted upon; what is wrong after it."""
        changes: dict[str, Any] = {}
        with ExitStack() as stack:
            if kind == "only":
                changes["only"] = ONLY
            elif kind == "parallel":
                changes["connections"] = 3
            elif kind == "unshared":
                stack.enter_context(scene.unshared())
            elif kind == "failing":
                stack.enter_context(scene.locked(*LOCKED))
                changes |= _LOCK_TIMEOUT
            stack.enter_context(scene.acted(act))
            return self._run(scene, may_fail=True, **changes)

    def _run(self, scene: Scene, *, may_fail: bool = False, **changes: Any) -> list[str]:
        """Run, and hold what landed against the oracle; what is wrong. Under an act the run `may_fail` as a whole."""
        told = self.told
        told["runs"] += 1

        def observe(event: Event) -> None:
            told["snapshots lost"] += isinstance(event, Retried) and event.what == "work under one snapshot"

        try:
            manifest = scene.run(observe, Stop(), **changes)
        except (SourceError, ConfigError) as error:
            told[f"runs that failed: {error.sentence}"] += 1
            return [] if may_fail else [f"the run failed: {error.sentence}"]
        except FloodmarkError as error:
            return [f"the run failed: {type(error).__name__}: {error.sentence}"]
        finally:
            told["statements"] += scene.statements
        for entry in manifest.tables:
            told[f"{'acted' if may_fail else 'quiet'}: {entry.status}: {entry.reason.code}"] += 1
        return scene.faults(partial="only" in changes)


class _Play:
    """One act while a run is at work: done at its place, and what can be undone of it."""

    def __init__(self, case: Case, act: Act, scene: Scene, told: Counter[str]) -> None:
        self._case, self._act, self._scene, self._told = case, act, scene, told
        self.reached = False
        self.to_undo: list[str] = []

    def at(self, when: str, number: int, text: str) -> None:
        case = self._case
        if not self.reached and number == case.number and when == ("after" if case.place == "after" else "before"):
            self.reached = True
            self._do()
            if case.place == "twice":
                self.undo()
        elif self.reached and case.place == "around" and when == "after":
            self.undo()

    def undo(self) -> None:
        """Undo what can be undone now, the last move first."""
        for back in list(reversed(self.to_undo)):
            if self._scene.done(back) is None:
                self.to_undo.remove(back)

    def _do(self) -> None:
        for move in self._act.moves:
            refused = self._scene.done(move.there)
            self._told[f"{self._case.act}: {'done' if refused is None else f'refused: {refused}'}"] += 1
            if refused is None and move.back:
                self.to_undo.append(move.back)
