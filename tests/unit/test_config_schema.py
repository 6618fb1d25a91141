"""The JSON Schema of floodmark.yaml says the same as the parser, and every example in the documents satisfies it."""

from __future__ import annotations

import io
import json
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fix_cli import command_streams
from floodmark.cli.arguments import parse
from floodmark.cli.commands import call
from floodmark.cli.main import main
from floodmark.config import Flags, load, values
from floodmark.config.document import read_config
from floodmark.config.json_schema import FILE_NAME, json_schema
from floodmark.config.schema import ConfigFile, documented_keys, field_kinds
from floodmark.config.template import TemplateChoices, template_text
from floodmark.errors import ConfigError

ROOT = Path(__file__).parents[2]
SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
CONFIGURATION = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
MEASURED = (
    "chunk_size",
    "max_snapshot_age",
    "statement_timeout",
    "lock_timeout",
    "wal_summary_wait",
    "grace",
    "min_interval",
    "tables_gone",
    "rows_removed",
    "share",
)
LISTS = ("deliver", "notify")
# Not 1.0: to JSON Schema it is an integer, to the parser it is none.
SAMPLES: tuple[Any, ...] = (
    None, True, False, 0, 1, 7, -1, 65_536, 10**7, 10**12, 1.5, "", "x", "null", "exact", "journal", "column", "gzip",
    "keep", "none", "include", "fail", "redact", "4h", "64MiB", "64 mib", "1h 30m", "5", "50%", "accept", [],
    ["a"], [1], [None], {},
    {"x": 1}, {"x": None}, {"x": "hash"}, [{}], [{"name": "a"}], [{"x": 1}], "state", ["failed"],
)  # fmt: skip


def accepted(document: Any) -> bool:
    return bool(VALIDATOR.is_valid(document))


def parsed(document: Any, folder: Path) -> bool:
    """Return whether the parser takes the shape and the types of a document."""
    file = folder / "f.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    try:
        read_config(file)
    except ConfigError:
        return False
    return True


def loads(document: Any, folder: Path) -> bool:
    """Return whether the whole configuration is accepted, with ranges and units."""
    file = folder / "f.yaml"
    for receiver in document.get("notify") or ():
        receiver.setdefault("to", "mailto://mail.example.org")
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    environ = {"FLOODMARK_SOURCE": "sqlite:///a.db", "FLOODMARK_DESTINATION": "./lake"}
    try:
        load(Flags(config=file, metrics_port=9000), environ)
    except ConfigError:
        return False
    return True


def nested(key: str, value: Any) -> Any:
    """Return a document with one dotted key set. `*` stands for a name, or for an item of a list."""
    for part in reversed(key.split(".")):
        item = part == "*" and key.startswith(LISTS)
        value = [value] if item else {"public.a" if part == "*" else part: value}
    return value


def sections() -> Iterator[str]:
    """Every place at which a key can stand, from the top level on."""
    found = {""}
    for key in documented_keys():
        parts = key.split(".")
        found |= {".".join(parts[:end]) for end in range(1, len(parts))}
    # Below these stand names that the user chooses, or items of a list.
    yield from sorted(found - {*LISTS, "tables.rules", "tables.rules.*.columns.mask"})


def test_it_is_a_json_schema_that_names_itself() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == jsonschema.Draft7Validator.META_SCHEMA["$schema"]
    assert "x-default" not in json.dumps(json_schema())


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema"], {}) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == SCHEMA and told.err == ""


@pytest.mark.parametrize("place", list(sections()))
def test_an_unknown_key_is_refused_by_both_and_an_empty_section_by_neither(place: str, tmp_path: Path) -> None:
    for document in ({"shcema": 1}, {"shcema": None}):
        wrong = nested(place, document) if place else document
        assert not accepted(wrong) and not parsed(wrong, tmp_path)
    for content in ({}, None):
        if content is None and place in [f"{name}.*" for name in LISTS]:
            continue  # an item of a list must be there
        fine = nested(place, content) if place else content
        assert accepted(fine) and parsed(fine, tmp_path)


@pytest.mark.parametrize(
    "key", [*documented_keys(), "tables.rules", "tables.rules.*", "tables.rules.*.columns.mask", *LISTS]
)
def test_both_accept_the_same_values(key: str, tmp_path: Path) -> None:
    verdicts = {}
    for value in SAMPLES:
        document = nested(key, value)
        verdicts[repr(value)] = accepted(document)
        if key.rpartition(".")[2] not in MEASURED:
            assert accepted(document) is parsed(document, tmp_path), f"{key}: {value!r}"
        elif not accepted(document):
            assert not loads(document, tmp_path), f"{key}: {value!r}"
        else:
            assert loads(document, tmp_path) or isinstance(value, str), f"{key}: {value!r}"
    assert len(set(verdicts.values())) == 2, "a key that takes everything, or nothing"


@given(st.from_regex(r"[ \n\t]?[0-9]{0,16} ?([a-zA-Z]{0,3}|KiB|MiB|GiB)[ \n]?", fullmatch=True) | st.text(max_size=6))
def test_a_size_is_accepted_by_both_or_by_neither(text: str) -> None:
    assert bool(re.search(values.SIZE_PATTERN, text)) is understood(values.parse_size, text)


@given(st.from_regex(r"[ \n\t]?([0-9]{0,10}[smhdM]?){0,3}[ \n]?", fullmatch=True) | st.text(max_size=6))
def test_a_duration_is_accepted_by_both_or_by_neither(text: str) -> None:
    assert bool(re.search(values.DURATION_PATTERN, text)) is understood(values.parse_duration, text)


def understood(read_value: Any, text: str) -> bool:
    try:
        read_value(text)
    except ValueError:
        return False
    return True


def property_of(key: str) -> dict[str, Any]:
    """Return the schema of a dotted key's value."""
    parts = SCHEMA["$defs"]
    here: dict[str, Any] = {"$ref": "#/$defs/ConfigFile"}
    for part in key.split("."):
        options = here.get("anyOf", [here])
        (here,) = [one for one in options if one.get("type") != "null"]
        if "$ref" in here:
            here = parts[here["$ref"].rpartition("/")[2]]
        if part == "*":
            here = here["items"] if here["type"] == "array" else here["additionalProperties"]
        else:
            here = here["properties"][part]
    return here


def documented_defaults() -> dict[str, Any]:
    """Return the keys of docs/configuration.md whose default is a value that a file can hold."""
    cells = re.findall(r"^\| `([a-z_.*]+)` \| ([^|]*) \|", CONFIGURATION, re.MULTILINE)
    found = {key: re.fullmatch(r"`([^<`]*)`", default) for key, default in cells}
    return {key: yaml.safe_load(match[1]) for key, match in found.items() if match is not None}


@pytest.mark.parametrize("key", list(documented_keys()))
def test_every_key_is_described_with_the_default_that_the_document_gives(key: str) -> None:
    told = property_of(key)
    if not key.endswith("mask.*"):  # the mapping describes all masks
        assert told["description"].endswith(".")
    assert told.get("default") == documented_defaults().get(key)
    if "default" in told:
        assert accepted(nested(key, told["default"]))


def test_every_section_is_described() -> None:
    assert len(SCHEMA["$defs"]) == 17
    assert all(part["description"] and part["additionalProperties"] is False for part in SCHEMA["$defs"].values())


class EditorLoader(yaml.SafeLoader):
    """A loader that reads `on` as a word, as YAML 1.2, editors and the parser do."""


EditorLoader.yaml_implicit_resolvers = {
    letter: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:bool" or letter in "tTfF"]
    for letter, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def examples() -> Iterator[tuple[str, Any]]:
    """Every YAML block of the documents, with the place where it stands."""
    for path in [
        *sorted(ROOT.glob("*.md")),
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "ops").glob("*.md")),
    ]:
        for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)):
            yield f"{path.name}-{number}", yaml.load(block, EditorLoader)


# Charts whose values the documents show.
CHARTS = {"dataExtractor", "envoy-forward-proxy", "generic-data-analytics-extractor"}


def configurations(document: dict[str, Any]) -> list[Any]:
    """Return the configurations in a YAML document: itself, or those below `config` in values of a chart."""
    if {"apiVersion", "dependencies"} & set(document):
        return []
    if set(document) <= CHARTS:
        return [values["config"] for values in document.values() if "config" in values]
    return [document]


@pytest.mark.parametrize("place", dict(examples()))
def test_every_example_of_the_documents_satisfies_it(place: str, tmp_path: Path) -> None:
    for one in configurations(dict(examples())[place]):
        VALIDATOR.validate(one)
        assert parsed(one, tmp_path)


def test_enough_examples_are_seen() -> None:
    assert sum(len(configurations(document)) for _, document in examples()) >= 4


def test_short_examples_in_the_text_satisfy_it() -> None:
    short = re.findall(r"`((?:deliver|notify): \[\{.*?\}\])`", CONFIGURATION)
    assert len(short) == 2
    for one in short:
        VALIDATOR.validate(yaml.load(one, EditorLoader))


@pytest.mark.parametrize("wanted", [
    TemplateChoices(destination="lake"),
    TemplateChoices(
        source="sqlite:///a.db", destination="s3://a/b", state="/s", layout="moj-landing", found=["2 tables"]
    ),
])  # fmt: skip
def test_the_first_file_satisfies_it_and_names_it(wanted: TemplateChoices) -> None:
    text = template_text(wanted)
    VALIDATOR.validate(yaml.safe_load(text))
    assert text.splitlines()[0] == f"# yaml-language-server: $schema={FILE_NAME}"


def init(folder: Path) -> tuple[int, str]:
    errors = io.StringIO()
    streams, _, _ = command_streams({}, err=errors)
    options = parse(["init", "--destination", "./lake", "--config", str(folder / "floodmark.yaml")])
    return call(options, streams), errors.getvalue()


def test_init_writes_the_schema_beside_the_file_and_overwrites_none(tmp_path: Path) -> None:
    assert init(tmp_path) == (0, "")
    schema = tmp_path / FILE_NAME
    assert json.loads(schema.read_bytes()) == SCHEMA
    schema.write_text("{}")
    (tmp_path / "floodmark.yaml").unlink()
    assert init(tmp_path) == (0, "") and schema.read_text() == "{}"


def test_a_schema_that_cannot_be_written_is_told_and_ends_nothing(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, limits[1]))  # the configuration is smaller, the schema larger
    try:
        code, told = init(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 0 and "can't be written (File too large)" in told and "floodmark config schema >" in told
    assert [path.name for path in tmp_path.iterdir()] == ["floodmark.yaml"]


def test_the_parser_and_the_schema_know_the_same_sections() -> None:
    assert set(SCHEMA["$defs"]["ConfigFile"]["properties"]) == set(field_kinds(ConfigFile))
