"""The list of states for commands that read several: what overrides what, and which places are the same."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from fix_cli import command_streams
from floodmark.cli.arguments.groups import add_places
from floodmark.cli.arguments.parser import Parser
from floodmark.cli.settings import several_states
from floodmark.config import Flags, load_states
from floodmark.errors import ConfigError, UsageError

FILE = "states: [s3://file/a, s3://file/b]\nstate: {url: s3://file/one}\ndestination: {url: s3://file/data}\n"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def places(environ: dict[str, str] | None = None, **flags: object) -> list[str | None]:
    found = load_states(Flags(**flags), environ or {})  # type: ignore[arg-type]
    return [one.state_url for one in found.settings]


def test_flags_override_the_environment_and_the_environment_overrides_the_file() -> None:
    Path("floodmark.yaml").write_text(FILE)
    assert places() == ["s3://file/a", "s3://file/b"]
    assert places({"FLOODMARK_STATES": "  "}) == ["s3://file/a", "s3://file/b"]
    assert places({"FLOODMARK_STATE": "s3://env/one"}) == ["s3://env/one"]
    both = {"FLOODMARK_STATE": "s3://env/one", "FLOODMARK_STATES": "s3://env/a, s3://env/b\ns3://env/c"}
    assert places(both) == ["s3://env/a", "s3://env/b", "s3://env/c"]
    assert places(both, states=("s3://flag/a", "s3://flag/b")) == ["s3://flag/a", "s3://flag/b"]
    assert places(states=("s3://flag/a",)) == ["s3://flag/a"]


def test_a_destination_on_the_command_line_means_its_own_state() -> None:
    Path("floodmark.yaml").write_text("states: [s3://file/a, s3://file/b]")
    assert places({"FLOODMARK_STATES": "s3://env/a"}, destination="s3://x/y") == ["s3://x/y/_floodmark/"]


def test_without_a_list_it_is_the_one_state_of_other_commands() -> None:
    Path("floodmark.yaml").write_text("state: {url: s3://file/one}")
    (one,) = load_states(Flags(), {"FLOODMARK_DESTINATION": "s3://mine/lake"}).settings
    assert (one.state_url, one.destination.url) == ("s3://file/one", "s3://mine/lake")
    landing = load_states(Flags(destination="s3://moj-reg-prod/landing/x"), {}).settings
    assert [one.state_url for one in landing] == ["s3://file/one"]


def test_only_one_state_keeps_the_destination_of_the_configuration() -> None:
    Path("floodmark.yaml").write_text(FILE)
    assert {one.destination.url for one in load_states(Flags(), {}).settings} == {""}
    (one,) = load_states(Flags(states=("s3://flag/a",)), {}).settings
    assert one.destination.url == "s3://file/data"


def test_a_place_is_read_once_however_it_is_written(tmp_path: Path) -> None:
    found = load_states(Flags(states=("./a", "s3://b/c/", f"{tmp_path}/x/../a", "s3://b/c", "s3://b/c")), {})
    assert [one.state_url for one in found.settings] == ["./a", "s3://b/c/"]
    assert found.repeated == (f"{tmp_path}/x/../a", "s3://b/c")


@pytest.mark.parametrize(
    ("file", "environ", "flags", "told"),
    [
        ("states: [./a, gs://b]", {}, (), r"states\[1\] \(floodmark.yaml\)"),
        ("states: ['']", {}, (), r"states\[0\] \(floodmark.yaml\): it is empty"),
        ("states: s3://a/b", {}, (), "states .*expected a list"),
        ("states: [{url: s3://a/b}]", {}, (), r"states\[0\] .*expected text"),
        ("", {"FLOODMARK_STATES": "s3://a/b s3://user:c4n4ry@host/b"}, (), "FLOODMARK_STATES: credentials"),
        ("", {}, ("s3://a/b", "lake"), "--state: it has no s3://"),
        ("", {}, (), "no destination is given"),
    ],
)
def test_a_wrong_place_is_refused_with_its_origin(
    file: str, environ: dict[str, str], flags: tuple[str, ...], told: str
) -> None:
    Path("floodmark.yaml").write_text(file)
    with pytest.raises(ConfigError, match=told) as refused:
        load_states(Flags(states=flags), environ)
    assert "c4n4ry" not in str(refused.value) + str(refused.value.hint)


def parsed(*argv: str, several: bool = True) -> Namespace:
    command = Parser(prog="floodmark x")
    add_places(command, source=False, several=several)
    return command.parse_args(argv)


def test_a_command_reads_several_states_and_warns_of_a_repeated_one() -> None:
    streams, out, err = command_streams()
    found = several_states(parsed("--state", "./a", "--state", "./b", "--state", "./a/"), streams)
    assert [one.state_url for one in found] == ["./a", "./b"]
    assert (out.getvalue(), err.getvalue()) == ("", "floodmark: given more than once, and read once: ./a/\n")


def test_the_warning_of_a_command_with_a_log_is_an_event() -> None:
    streams, _, err = command_streams()
    options = parsed("--state", "./a", "--state", "./a")
    options.log_format = "text"
    assert len(several_states(options, streams)) == 1
    assert "warning" in err.getvalue() and "read once: ./a" in err.getvalue()


def test_a_landing_zone_without_a_state_has_no_state_to_read() -> None:
    streams, _, _ = command_streams({"FLOODMARK_DESTINATION": "s3://moj-reg-prod/landing/x"})
    with pytest.raises(ConfigError, match="there is no state to read"):
        several_states(parsed(), streams)


def test_other_commands_refuse_a_second_state() -> None:
    with pytest.raises(UsageError, match="--state is given more than once, and this command reads one state"):
        parsed("--state", "./a", "--state", "./b", several=False)
