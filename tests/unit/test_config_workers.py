"""What leaves for another machine holds no secret, and a worker completes it from its own environment."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from msgspec import Struct

from floodmark.config import (
    ChannelSettings,
    DestinationSettings,
    NotifySettings,
    Secret,
    Selection,
    Settings,
    SourceSettings,
    TableRule,
)
from floodmark.config.workers import require_shareable, with_own_secrets, without_secrets
from floodmark.errors import ConfigError
from floodmark.pipeline.job import run

HIDDEN = "hidden-5e2c"
URL = f"postgresql://reader:{HIDDEN}@db.example/shop"


def structs_in(hint: Any) -> Iterator[type[Struct]]:
    """The structs that a type names, in whatever it is made of."""
    if isinstance(hint, type) and issubclass(hint, Struct):
        yield hint
    for inner in get_args(hint):
        yield from structs_in(inner)


def filled(kind: type[Struct]) -> Any:
    """A struct whose every Secret is filled, in all structs below it."""
    values: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for field in msgspec.structs.fields(kind):
        hint = hints[field.name]
        inner = next((one for one in structs_in(hint)), None)
        if inner is Secret:
            values[field.name] = Secret(f"{URL}?{kind.__name__}.{field.name}")
        elif inner is not None and any(found is Secret for found in every(inner)):
            values[field.name] = (filled(inner),) if "tuple" in str(hint) else filled(inner)
        elif field.required:
            values[field.name] = () if "tuple" in str(hint) else "people" if field.name == "kind" else "x"
    return kind(**values)


def every(kind: type[Struct]) -> Iterator[type[Struct]]:
    for hint in get_type_hints(kind).values():
        for inner in structs_in(hint):
            yield inner
            if inner is not kind and inner is not Secret:
                yield from every(inner)


def test_every_secret_is_found_by_this_test() -> None:
    settings = filled(Settings)
    shown = pickle.dumps(settings)
    for place in ("SourceSettings.url", "Selection.mask_key", "Metrics.pushgateway", "OpenLineageSettings.api_key"):
        assert place.encode() in shown
    assert b"ChannelSettings.to" in shown and b"ChannelSettings.secret" in shown


def test_nothing_that_is_sent_holds_a_secret() -> None:
    sent = without_secrets(filled(Settings))
    assert HIDDEN.encode() not in pickle.dumps(sent)
    assert pickle.loads(pickle.dumps(sent)) == sent


def settings(**selection: Any) -> Settings:
    return Settings(
        source=SourceSettings(Secret(URL)),
        destination=DestinationSettings(url="s3://bucket/data"),
        state_url="s3://bucket/state",
        selection=Selection(**selection),
        notify=NotifySettings((ChannelSettings(name="c", kind="people", to=Secret(HIDDEN), on=("failed",)),)),
    )


def test_a_worker_has_its_own_source_and_mask_key() -> None:
    sent = without_secrets(settings(mask_key=Secret("theirs"), rules={"public.a": TableRule(where="x > 1")}))
    own = with_own_secrets(sent, {"FLOODMARK_SOURCE": "postgresql://w@db/shop", "FLOODMARK_MASK_KEY": "mine"})
    assert own.source.url == Secret("postgresql://w@db/shop")
    assert own.selection.mask_key == Secret("mine")
    assert own.selection.rules == {"public.a": TableRule(where="x > 1")}
    assert own.destination.url == "s3://bucket/data"


def test_libpq_knows_the_source() -> None:
    own = with_own_secrets(without_secrets(settings()), {"PGHOST": "db", "PGDATABASE": "shop"})
    assert own.source.url is None and own.selection.mask_key is None


def test_a_file_names_the_source(tmp_path: Path) -> None:
    file = tmp_path / "worker.yaml"
    file.write_text("source: {url: postgresql://from-file@db/shop}\n", encoding="utf-8")
    own = with_own_secrets(without_secrets(settings()), {"FLOODMARK_CONFIG": str(file)})
    assert own.source.url == Secret("postgresql://from-file@db/shop")


@pytest.mark.parametrize(
    "environ", [{}, {"FLOODMARK_CONFIG": "/nowhere/worker.yaml"}, {"FLOODMARK_SOURCE": "nonsense"}]
)
def test_a_worker_without_a_source_says_what_to_set(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as refused:
        with_own_secrets(without_secrets(settings()), environ)
    assert refused.value.on == socket.gethostname()
    assert "FLOODMARK_SOURCE" in str(refused.value.hint) and "FLOODMARK_CONFIG" in str(refused.value.hint)
    assert HIDDEN not in str(refused.value)


def test_a_run_that_a_cluster_can_share() -> None:
    require_shareable(settings())
    require_shareable(msgspec.structs.replace(settings(), source=SourceSettings(None)))


@pytest.mark.parametrize(
    ("change", "on"),
    [
        ({"source": SourceSettings(Secret(f"mysql://a:{HIDDEN}@db/shop"))}, "source.url"),
        ({"destination": DestinationSettings(url="s3://zone/in", layout="moj-landing")}, "layout: moj-landing"),
    ],
)
def test_a_run_that_must_stay_on_one_machine(change: dict[str, Any], on: str) -> None:
    """The job asks before it does anything, so no store and no scheduler need to exist."""
    refused_settings = msgspec.structs.replace(settings(), engine="dask://nowhere.example:8786", **change)
    with pytest.raises(ConfigError, match="can't run on a cluster") as refused:
        run(refused_settings)
    assert refused.value.on == on and HIDDEN not in str(refused.value)
