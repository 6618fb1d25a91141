"""An error that comes from another machine is the same error here."""

from __future__ import annotations

import pickle

import pytest

from floodmark.errors import DoesNotFit, FloodmarkError, RunStopped, Stopped, TableError


@pytest.mark.parametrize(
    "error",
    [
        DoesNotFit("can't load", on="public.t", why="it is too large", hint="Use --text."),
        TableError("can't extract", code="locked", on="public.t"),
        Stopped(15, "Nothing was changed."),
        RunStopped(2, "3 chunks are kept.", 3, 5),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_its_way(error: FloodmarkError) -> None:
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert found.args == error.args
    assert vars(found) == vars(error)
