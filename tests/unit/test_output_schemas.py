"""Each command with --output json has a JSON Schema in docs/schemas, made from the struct that the command prints.

To write the schemas again after a change that was meant: `WRITE_SCHEMAS=1 pytest tests/unit/test_output_schemas.py`.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from fix_cli import entry, manifest
from fix_documents import DOCUMENTS, require_documented, schema_of
from floodmark.cli.arguments import parser, subcommands
from floodmark.state.manifest import encode

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
CLI = (SCHEMAS.parent / "cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", DOCUMENTS)
def test_the_schema_in_the_docs_is_that_of_the_document(command: str) -> None:
    file = SCHEMAS / f"{command}.json"
    schema = schema_of(command)
    if os.environ.get("WRITE_SCHEMAS"):
        SCHEMAS.mkdir(exist_ok=True)
        file.write_bytes(msgspec.json.format(msgspec.json.encode(schema), indent=1) + b"\n")
    assert json.loads(file.read_text(encoding="utf-8")) == schema
    Draft202012Validator.check_schema(schema)
    assert f"(schemas/{command}.json)" in CLI


def test_every_command_with_json_output_has_a_schema() -> None:
    commands = subcommands(parser())
    printing = {
        name
        for name, one in commands.items()
        if any(action.dest == "output" for each in (one, *subcommands(one).values()) for action in each._actions)
    }
    assert printing == set(DOCUMENTS) == {file.stem for file in SCHEMAS.iterdir()}


def test_a_manifest_fits_its_schema_and_other_things_do_not() -> None:
    check = Draft202012Validator(schema_of("run"))
    document: dict[str, Any] = json.loads(encode(manifest(entry(), entry("b", "failed", "denied", as_of=None))))
    check.validate(document)
    require_documented(["run", "--output", "json"], json.dumps(document))
    document["tables"][0]["rows"] = "many"
    assert [re.sub(r"\$.*", "", one.message) for one in check.iter_errors(document)]
    with pytest.raises(AssertionError, match="Expected"):
        require_documented(["run", "--output", "json"], json.dumps(document))
    with pytest.raises(AssertionError, match="keys"):
        require_documented(["plan", "--output", "json"], '{"tables": [], "more": 1}')
