"""Documentation, in both directions: what exists is documented, and what is documented exists."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from msgspec import Struct, inspect

from floodmark import errors, lineage, model
from floodmark.cli.arguments import option_strings, parser, subcommands
from floodmark.config import Flags, Settings, load
from floodmark.config.schema import documented_keys
from floodmark.metrics import catalogue
from floodmark.state import announced, consumers, manifest

ROOT = Path(__file__).parents[2]
CONFIGURATION = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
CLI = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
METRICS = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
FORMAT = (ROOT / "docs/format.md").read_text(encoding="utf-8")
CODE = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src/floodmark").rglob("*.py")))
VARIABLE = re.compile(r'"((?:FLOODMARK|S3)_[A-Z_]+|NO_COLOR)"')
BASE = {"FLOODMARK_SOURCE": "postgresql://u@h/db", "FLOODMARK_DESTINATION": "s3://mine/lake"}


def rows(text: str, head: str) -> list[list[str]]:
    """The cells of all table rows below a line that begins with `| head |`."""
    found: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        if line.startswith(f"| {head} |"):
            inside = True
        elif inside and line.startswith("| `"):
            found.append([cell.strip() for cell in line.strip("|").split(" | ")])
        elif not line.startswith("|"):
            inside = False
    return found


def names(text: str, head: str) -> list[str]:
    """What stands in backquotes in the first column, up to a space."""
    return [cells[0].strip("`").split()[0] for cells in rows(text, head)]


def section(title: str) -> str:
    """A second-level section of docs/cli.md."""
    return re.split(rf"^## {re.escape(title)}$", CLI, flags=re.MULTILINE)[1].split("\n## ")[0]


def test_every_key_is_documented_once_and_every_documented_key_exists() -> None:
    assert sorted(names(CONFIGURATION, "key")) == sorted(documented_keys())


def test_every_variable_is_documented_and_every_documented_one_is_read() -> None:
    assert set(names(CONFIGURATION, "variable")) == set(VARIABLE.findall(CODE))


@pytest.mark.parametrize("command", [None, *subcommands(parser())])
def test_every_option_is_documented_and_every_documented_one_exists(command: str | None) -> None:
    title = "floodmark" if command is None else f"floodmark {command}"
    assert sorted(names(section(title), "option")) == sorted(option_strings(command))


def test_every_command_is_documented_and_every_documented_one_exists() -> None:
    assert set(re.findall(r"^## floodmark (\w+)$", CLI, re.MULTILINE)) == set(subcommands(parser()))


@pytest.mark.parametrize("command", subcommands(parser()))
def test_every_command_of_a_group_is_documented_and_every_documented_one_exists(command: str) -> None:
    group = subcommands(subcommands(parser())[command])
    told = section(f"floodmark {command}")
    assert names(told, "command") == list(group)
    for name, inner in group.items():
        assert f"`floodmark {command} {name}`" in told
        assert sorted(names(told, f"option of {name}")) == sorted(
            text for action in inner._actions for text in action.option_strings if text not in ("-h", "--help")
        )


def test_every_exit_code_is_documented_and_every_documented_one_exists() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    codes = {kind.exit_code for kind in kinds if issubclass(kind, errors.FloodmarkError)}
    codes |= {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    codes |= {errors.Stopped(number).code for number in (signal.SIGINT, signal.SIGTERM)}
    assert sorted(map(int, names(CLI, "code"))) == sorted(codes)


# The sections of docs/format.md, by the struct each describes.
FORMAT_SECTIONS: dict[type[Any], str] = {
    model.Chunk: "chunk",
    model.ContractDrift: "contract drift",
    model.ContractFacts: "contract facts",
    model.ChunkMark: "mark",
    model.Column: "column",
    model.Encoding: "encoding",
    model.Ended: "ended",
    model.Fingerprint: "fingerprint",
    lineage.Lineage: "lineage",
    model.ObjectEntry: "object",
    model.JournalMark: "journal mark",
    model.PartDefinition: "part",
    model.PartName: "partition",
    model.Point: "point",
    model.Reason: "reason",
    model.TableEntry: "table",
    model.WalBase: "wal base",
    model.Watermark: "watermark",
    announced.Completion: "completion",
    announced.Notified: "notified",
    announced.NotifiedChannel: "notified channel",
    announced.NotifiedKind: "notified kind",
    manifest.Begun: "begun",
    manifest.FinishedChunks: "finished",
    manifest.Head: "head",
    manifest.Inflight: "inflight",
    manifest.Manifest: "manifest",
    manifest.ManifestSource: "source",
    manifest.Progress: "progress",
    manifest.Record: "record",
    manifest.Working: "working",
    consumers.Cursor: "cursor",
    consumers.Delivery: "delivery",
    consumers.TakenTable: "taken",
    consumers.ParquetIndex: "parquet",
    consumers.ParquetTable: "parquet table",
    consumers.ParquetFile: "parquet file",
    consumers.SupersededFile: "superseded file",
}
_WORDS = {inspect.StrType: "string", inspect.IntType: "integer", inspect.BoolType: "boolean"}


def structs_within(kind: Any) -> Iterator[inspect.StructType]:
    """Every struct that a document of this kind holds, at any depth, and its own."""
    if isinstance(kind, inspect.StructType):
        yield kind
        for field in kind.fields:
            yield from structs_within(field.type)
    elif isinstance(kind, inspect.VarTupleType):
        yield from structs_within(kind.item_type)
    elif isinstance(kind, inspect.UnionType):
        for one in kind.types:
            yield from structs_within(one)


def described(kind: Any) -> tuple[str, str]:
    """The cells *type* and *null* of a field of this type."""
    if isinstance(kind, inspect.UnionType):
        (only,) = [one for one in kind.types if not isinstance(one, inspect.NoneType)]
        return described(only)[0], "yes"
    if isinstance(kind, inspect.VarTupleType):
        item = kind.item_type
        inner = FORMAT_SECTIONS[item.cls] if isinstance(item, inspect.StructType) else described(item)[0]
        return f"array of {inner}", "no"
    if isinstance(kind, inspect.StructType):
        return f"object: {FORMAT_SECTIONS[kind.cls]}", "no"
    if isinstance(kind, inspect.LiteralType):
        return ("integer" if isinstance(kind.values[0], int) else "string"), "no"
    return ("number" if isinstance(kind, inspect.FloatType) else _WORDS[type(kind)]), "no"


DOCUMENT_STRUCTS = {found.cls: found for kind in manifest._FORMATS for found in structs_within(inspect.type_info(kind))}


@pytest.mark.parametrize("struct", DOCUMENT_STRUCTS.values(), ids=lambda struct: struct.cls.__name__)
def test_every_field_of_every_document_is_specified_as_it_is(struct: inspect.StructType) -> None:
    title = FORMAT_SECTIONS.get(struct.cls)
    assert title is not None, f"{struct.cls.__name__} needs a section in docs/format.md, named in FORMAT_SECTIONS"
    text = re.split(rf"^### {title}$", FORMAT, flags=re.MULTILINE)[1].split("\n### ")[0]
    told = [tuple(cells[:3]) for cells in rows(text, "field")]
    assert told == [(f"`{field.encode_name}`", *described(field.type)) for field in struct.fields]


def test_no_section_describes_what_no_document_holds() -> None:
    titles = [text.split("\n")[0] for text in re.split(r"^### ", FORMAT, flags=re.MULTILINE) if "| field |" in text]
    assert sorted(titles) == sorted(FORMAT_SECTIONS.values()) and set(FORMAT_SECTIONS) == set(DOCUMENT_STRUCTS)


def test_every_metric_is_documented_as_it_is_and_every_documented_one_exists() -> None:
    told = sorted((cells[0].strip("`"), *cells[1:3]) for cells in rows(METRICS, "metric"))
    labels = {one.name: ", ".join(f"`{label}`" for label in one.labels) or "none" for one in catalogue.ALL}
    assert told == sorted((one.name, one.kind, labels[one.name]) for one in catalogue.ALL)


def test_every_status_and_reason_code_is_specified_and_every_specified_one_exists() -> None:
    assert sorted(names(FORMAT, "status")) == sorted(get_args(model.Status))
    assert sorted(names(FORMAT, "code")) == sorted(get_args(model.ReasonCode))
    assert {cells[1].strip("`") for cells in rows(FORMAT, "code")} == set(get_args(model.Status))


def test_every_reason_the_code_gives_is_one_that_is_specified() -> None:
    """A code is text, so that newer ones can be read; so nothing but this keeps a slip from becoming one."""
    given = set(re.findall(r'\bReason\(\s*"(\w+)"', CODE)) | set(re.findall(r'\bcode="(\w+)"', CODE))
    assert len(given) > 10 and given <= set(get_args(model.ReasonCode))


def test_the_worked_checksums_are_right() -> None:
    console = "".join(re.findall(r"```console\n(.*?)```", FORMAT, re.DOTALL))
    steps = re.findall(r"^\$ (.*)\n(.*)$", console, re.MULTILINE)
    assert len(steps) == 4
    for command, output in steps:
        done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=True, text=True)
        assert done.stdout == f"{output}\n"
    ours = manifest.checksum(Digested(content_sha256=digest) for _, digest in steps[:2])  # type: ignore[misc]
    assert ours == f"sha256:{steps[2][1]}" and f"`{ours}`" in FORMAT


class Digested(Struct):
    """As much of an object's entry as a checksum looks at."""

    content_sha256: str


def example() -> str:
    return CONFIGURATION.split("```yaml\n")[1].split("```")[0]


def loaded(text: str, folder: Path) -> Settings:
    file = folder / "floodmark.yaml"
    file.write_text(text, encoding="utf-8")
    return load(Flags(config=file), {**BASE, "FLOODMARK_MASK_KEY": "k"})


def test_the_example_is_accepted(tmp_path: Path) -> None:
    settings = loaded(example(), tmp_path)
    assert settings.source.wait_seconds == 600
    assert settings.selection.rules["public.person"].columns.mask["middle_name"] == "null"


def test_documented_defaults_are_the_defaults(tmp_path: Path) -> None:
    """A file that sets every documented default, where that is a value, changes nothing."""
    document: dict[str, Any] = {}
    count = 0
    for key, default, *_ in rows(CONFIGURATION, "key"):
        value = re.fullmatch(r"`([^<`]*)`", default)
        if value is None or "*" in key:
            continue
        section_name, _, inner = key.strip("`").rpartition(".")
        within = document.setdefault(section_name, {}) if section_name else document
        within[inner] = yaml.safe_load(value[1])
        count += 1
    assert count >= 14
    contract = document.pop("contract")  # the section alone puts a contract in force
    assert loaded(yaml.safe_dump(document), tmp_path) == loaded("", tmp_path)
    (tmp_path / contract["file"]).write_text("format: floodmark.contract\nversion: 1\n", encoding="utf-8")
    assert loaded(yaml.safe_dump({"contract": contract}), tmp_path) == loaded("contract:", tmp_path)


def test_no_file_cites_a_document_that_is_not_in_the_repository() -> None:
    found = []
    for folder in ("src", "tests", "bench", "docs", "ops"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".md", ".yml", ".yaml", ".tf", ".tpl"):
                text = path.read_text(encoding="utf-8")
                found += [f"{path.name}: {words}" for words in re.findall(r"\b[Tt]he design\b|\bdesign[.,]md\b", text)]
                found += [
                    f"{path.name}: {words}" for words in re.findall(r"\bsection \d+ of\b|\bdesign[,] section", text)
                ]
    assert found == []


def test_nothing_says_to_install_from_an_index_that_does_not_hold_the_package() -> None:
    pattern = re.compile(r"(pip|pipx|uv)( \w+)* install (-\S+ )*'?floodmark\b")
    found = []
    for folder in ("src", "bench", "docs", "ops"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".md", ".txt"):
                found += [f"{path.name}: {hit[0]}" for hit in pattern.finditer(path.read_text(encoding="utf-8"))]
    found += [hit[0] for hit in pattern.finditer((ROOT / "README.md").read_text(encoding="utf-8"))]
    assert found == []
