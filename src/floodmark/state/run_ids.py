"""The names of runs on the command line: a run's id, or a prefix that no other run in history shares. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from floodmark.errors import UsageError
from floodmark.state.manifest import Manifest

# The name of the run that head names, for the commands that know it.
CURRENT = "current"
_SHAPE = re.compile(r"[0-9A-Za-z]+(-[0-9a-z]*)?\Z", re.ASCII)
_HINT = "See `floodmark history`."
_SHOWN = 5
NO_SUCH_RUN = "history holds no such run"


class RunSearch:
    """A search for the one run that `wanted` names. It takes manifests, and keeps the first match."""

    def __init__(self, wanted: str) -> None:
        """Raise UsageError, which does not repeat the text, if the text can't be a prefix of a run's id."""
        if not _SHAPE.match(wanted):
            raise UsageError("this is no run's id", hint=_HINT)
        self._wanted = wanted
        self._ids: list[str] = []
        self._found: Manifest | None = None

    def take(self, manifest: Manifest) -> bool:
        """Look at one manifest. Return True if the search is over: its id equals the wanted text."""
        if manifest.run_id.startswith(self._wanted):
            self._found = self._found or manifest
            self._ids.append(manifest.run_id)
        return manifest.run_id == self._wanted

    def found(self) -> Manifest:
        """Return the manifest. Raises UsageError if no manifest matches, or more than one."""
        if self._found is None:
            raise self.nothing()
        if len(self._ids) > 1:
            shown = [*self._ids[:_SHOWN], *(["…"] if len(self._ids) > _SHOWN else [])]
            why = f"several runs begin so: {', '.join(shown)}"
            raise UsageError("this run is not known", on=self._wanted, why=why, hint=_HINT)
        return self._found

    def nothing(self) -> UsageError:
        """Return the error for a history that holds no such run."""
        return UsageError("this run is not known", on=self._wanted, why=NO_SUCH_RUN, hint=_HINT)


def find_run(history: Iterable[Manifest], wanted: str) -> Manifest:
    """Return the manifest of a run, and read no further than needed. Raises UsageError like `RunSearch`."""
    return find_runs(history, [wanted])[0]


def find_runs(history: Iterable[Manifest], wanted: Sequence[str]) -> list[Manifest]:
    """Return the manifests of several runs, in the order of their names, in one pass over history.

    Raises UsageError like `RunSearch`.
    """
    searches = [RunSearch(one) for one in wanted]
    left = searches
    for manifest in history if left else ():
        left = [search for search in left if not search.take(manifest)]
        if not left:
            break
    return [search.found() for search in searches]
