"""The UK Ministry of Justice's own data-linter, in the venv that `make linter` sets up, as its users run it.

It decides by the file: each object that landed gets a verdict. What it skips gets none, which must not pass for an
acceptance; so each verdict is asked for, and files that no table claims are refused (`fail-unknown-files`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec import Struct

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv-linter/bin/python"

# Each document on stdin through mojap-metadata: as what the linter takes, and on to what the catalogue becomes.
_METADATA = """
import json, sys
from mojap_metadata import Metadata
from mojap_metadata.converters.glue_converter import GlueConverter
answers = []
for document in json.load(sys.stdin):
    found = Metadata.from_dict(document)
    found.set_col_type_category_from_types()
    glue = GlueConverter().generate_from_meta(found, table_location="s3://bucket/data/")
    columns = {one["Name"]: one["Type"] for one in glue["TableInput"]["StorageDescriptor"]["Columns"]}
    answers.append([glue["DatabaseName"], glue["TableInput"]["Name"], columns, Metadata().to_dict()["$schema"]])
json.dump(answers, sys.stdout)
"""


class Verdict(Struct, frozen=True):
    """What the linter said of one object. `why`: its report, of which a traceback is part where reading failed."""

    valid: bool
    why: str


class Linter:
    """Runs data-linter over a folder with objects by keys."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(scratch.parent), "AWS_DEFAULT_REGION": "eu-west-2"}

    def __call__(self, landed: Path, metadata: Sequence[dict[str, Any]]) -> dict[str, Verdict]:
        """The verdict on each object, by its key. The linter's exit code must agree with them."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        code, said = self._run("-m", "data_linter.command_line", "-c", str(self._configured(landed, metadata)))
        found = {}
        for path in (self.scratch / "log/tables").rglob("*.json"):
            one = json.loads(path.read_text())
            found[Path(one["original-path"]).relative_to(landed).as_posix()] = Verdict(one["valid"], str(one))
        objects = {path.relative_to(landed).as_posix() for path in (landed / "data").rglob("*") if path.is_file()}
        assert found.keys() == objects != set(), said
        assert (code == 0) == all(verdict.valid for verdict in found.values()), said
        return found

    def refused(self, landed: Path, metadata: Sequence[dict[str, Any]]) -> set[str]:
        """The names of the tables with an object that is not accepted."""
        return {
            key.split("table_name=")[1].split("/")[0]
            for key, verdict in self(landed, metadata).items()
            if not verdict.valid
        }

    def metadata(self, documents: Sequence[dict[str, Any]]) -> list[tuple[str, str, dict[str, str], str]]:
        """Of each document: database, name and columns of the Glue table it becomes, and the schema it should name."""
        code, said = self._run("-c", _METADATA, text=json.dumps(documents))
        assert code == 0, said
        return [(one[0], one[1], one[2], one[3]) for one in json.loads(said)]

    def _configured(self, landed: Path, metadata: Sequence[dict[str, Any]]) -> Path:
        """A configuration as the receiver has it: a table's files are known by its names in their keys."""
        tables = {}
        for number, document in enumerate(metadata):
            folder = f"/data/database_name={document['database_name']}/table_name={document['name']}/"
            (self.scratch / f"{number}.json").write_text(json.dumps(document))
            tables[document["name"]] = {
                "required": True,
                "pattern": f"^{re.escape(folder)}",
                "metadata": str(self.scratch / f"{number}.json"),
            }
        places = {f"{name}-base-path": str(self.scratch / name) for name in ("pass", "fail", "log")}
        switches = {"compress-data": False, "remove-tables-on-pass": False, "all-must-pass": True}
        unknown = {"fail-unknown-files": {"exceptions": []}}
        path = self.scratch / "config.yaml"
        path.write_text(
            yaml.safe_dump({"land-base-path": str(landed), **places, **switches, **unknown, "tables": tables})
        )
        return path

    def _run(self, *arguments: str, text: str | None = None) -> tuple[int, str]:
        done = subprocess.run(
            [str(PYTHON), *arguments], input=text, capture_output=True, text=True, env=self.environment, timeout=600
        )
        return done.returncode, done.stdout if done.returncode == 0 and text is not None else done.stdout + done.stderr


@pytest.fixture
def linter(tmp_path: Path) -> Linter:
    if not (ROOT / ".venv-linter/.ready").exists():
        pytest.skip("MoJ's data-linter is not set up: `make linter` does that, in a venv of its own")
    return Linter(tmp_path / "linter")
