"""The build of the native encoder and decoder: hatchling calls it for a wheel, and `make` calls it in a checkout.

It needs a C compiler and Python's headers. Without them it prints one line, and the wheel has only Python files: then
the server makes the lines, and Python reads them. An error in the modules' own source stops the build.

    python hatch_build.py            build the modules in src/, if one is older than its source
    python hatch_build.py FOLDER     compile them below a folder; exit code 3 if there is no usable compiler
"""

from __future__ import annotations

import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from sysconfig import get_config_var
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
NATIVE = ROOT / "src/floodmark/native"
SOURCES = sorted(NATIVE.glob("*.pyx"))
_VERSION = ROOT / "src/floodmark/version.py"
_PYTHON_ONLY = (".py", ".pyi", ".so")
NOT_BUILT = "Floodmark's native encoder was not built (no C compiler, or no Python.h): the server makes the lines."
_NO_COMPILER = 3
# Debug information names the folder of the build, so two builds of one source would differ.
_ARGUMENTS = {"extra_compile_args": ["-g0"]}


class NativeEncoder(BuildHookInterface[Any]):
    """The hook that adds the compiled modules to a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            built = build_in_place()
        else:
            self._folder = tempfile.TemporaryDirectory(prefix="floodmark-build-")
            built = compile_into(Path(self._folder.name))
        if built is None:
            self.app.display_warning(NOT_BUILT)
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        if version != "editable":
            build_data["force_include"].update({str(one): f"floodmark/native/{one.name}" for one in built})

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            self._folder.cleanup()


def build_in_place() -> list[Path] | None:
    """Compile the modules into src/, unless they are newer than their sources. Return their files, or None."""
    present = [NATIVE / _file_name(one) for one in SOURCES]
    inputs = [Path(__file__), _VERSION, *(one for one in NATIVE.glob("*.*") if one.suffix not in _PYTHON_ONLY)]
    newest = max(one.stat().st_mtime for one in inputs)
    if all(one.exists() and one.stat().st_mtime >= newest for one in present):
        return present
    with tempfile.TemporaryDirectory(prefix="floodmark-build-") as folder:
        built = compile_into(Path(folder))
        if built is None:
            for one in present:
                one.unlink(missing_ok=True)  # it would be the module of another source
            return None
        for one in built:
            staged = NATIVE / f".{one.name}.new"
            staged.write_bytes(one.read_bytes())
            staged.replace(NATIVE / one.name)  # a running process keeps the file that it has mapped
    return present


def compile_into(folder: Path) -> list[Path] | None:
    """Compile the modules below a folder and return their files, or None without a usable compiler.

    Another process compiles: its output is shown only if the source is at fault. Raises CalledProcessError then.
    """
    command = [sys.executable, str(Path(__file__).resolve()), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == _NO_COMPILER:
        return None
    if done.returncode != 0:
        sys.stderr.write(done.stdout + done.stderr)
        done.check_returncode()
    return [next((folder / "lib").rglob(_file_name(one))) for one in SOURCES]


def _file_name(source: Path) -> str:
    return f"{source.stem}{get_config_var('EXT_SUFFIX')}"


def _compile(folder: Path) -> int:
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension
    from setuptools.errors import BaseError, CCompilerError

    version = [("FLOODMARK_VERSION", f'"{runpy.run_path(str(_VERSION))["__version__"]}"')]
    extensions = [
        Extension(f"floodmark.native.{one.stem}", [str(one.relative_to(ROOT))], define_macros=version, **_ARGUMENTS)
        for one in SOURCES
    ]
    modules = cythonize(extensions, build_dir=str(folder / "c"), language_level=3)
    command = Distribution({"name": "floodmark", "ext_modules": modules}).get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(folder / "lib"), str(folder / "o")  # type: ignore[attr-defined]
    command.ensure_finalized()
    try:
        command.run()
    except (BaseError, CCompilerError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return _NO_COMPILER
    return 0


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(_compile(Path(sys.argv[1])))
    if build_in_place() is None:
        sys.stderr.write(f"{NOT_BUILT}\n")
