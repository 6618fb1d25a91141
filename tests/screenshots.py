"""Pictures of the terminal for the README and the docs: `make screenshots` writes docs/images/*.svg from real runs.

A private PostgreSQL server holds the demo's service. The states of many databases are made up. Each command runs in a
terminal of 100 columns, and rich exports what it showed. The pictures name no font of another host, so that a reader's
browser loads nothing.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from fix_many_states import Database, make_states
from floodmark.demo.service import PostgresService

IMAGES = Path(__file__).parents[1] / "docs" / "images"
COLUMNS = 100
PEOPLE = 20_000
# rich's own format, without the lines that load a font from another host.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
_CLEARED = re.compile(r"\r(?:\x1b\[2K|\x1b\[1A\x1b\[2K)+")
CONFIGURATION = """\
chunk_size: 4MiB
limits: {connections: 2}
tables:
  rules:
    public.person: {columns: {exclude: [home_address, national_insurance_number]}}
"""


class Terminal:
    """Runs commands in a terminal, in one folder and with one environment."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment

    def __call__(self, *arguments: str, until: Callable[[str], bool] = lambda shown: False) -> str:
        """Run a command and return all that it showed, or what it had shown when `until` was true."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
        process = subprocess.Popen(
            [sys.executable, "-m", "floodmark", *arguments],
            stdin=slave, stdout=slave, stderr=slave, cwd=self.folder, env=self.environment,
        )  # fmt: skip
        os.close(slave)
        shown = _read(master, until)
        if process.poll() is None:
            process.terminate()
            _read(master)
        os.close(master)
        process.wait()
        return shown


def _read(master: int, until: Callable[[str], bool] = lambda shown: False) -> str:
    shown = ""
    while not until(shown):
        try:
            data = os.read(master, 65536)
        except OSError:  # how Linux tells that the other end is closed
            break
        shown += data.decode(errors="replace")
    return shown


def last_frame(shown: str) -> str:
    """Return the last frame of a live display: the text after a sequence that clears it."""
    return next(frame for frame in reversed(_CLEARED.split(shown)) if "elapsed" in frame)


def last_words(shown: str) -> str:
    """Return what stays on the terminal after a live display is cleared."""
    return re.sub(r"\x1b\[\?25[hl]", "", _CLEARED.split(shown)[-1])


def is_midway(shown: str) -> bool:
    """Return True if the last frame is whole and shows a run that has extracted a part of the tables."""
    frame = re.sub(r"\x1b\[[0-9;]*m", "", _CLEARED.split(shown)[-1])
    return "left" in frame and re.search(r"extracting.*?\b[2-8]\d%", frame) is not None


def picture(name: str, command: str, shown: str) -> None:
    """Write what a terminal showed as docs/images/NAME.svg."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text(f"$ {command}", style="bold"))
    console.print(Text.from_ansi(shown.replace("\r\n", "\n").rstrip()))
    console.print()  # rich cuts the last line off at its baseline
    svg = console.export_svg(title="floodmark", code_format=FORMAT, unique_id=f"floodmark-{name}")
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / f"{name}.svg").write_text(svg + "\n", encoding="utf-8")


@contextmanager
def service(folder: Path) -> Iterator[tuple[Terminal, PostgresService]]:
    """Yield a terminal in a folder with a configuration, and the filled database that it names."""
    (folder / "floodmark.yaml").write_text(CONFIGURATION, encoding="utf-8")
    with PostgresService() as made:
        made.fill(PEOPLE)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "TERM": "xterm-256color",
            "TZ": "Europe/London",
            "FLOODMARK_SOURCE": made.url,
            "FLOODMARK_DESTINATION": "./lake",
        }
        yield Terminal(folder, environment), made


def picture_many_states() -> None:
    """Write the picture of the status of several databases, one of which can't be read."""
    names = ("case_notes", "allocations", "education", "interventions", "manage_adjudications", "prison_register")
    databases = [Database(name=name, tables=9 + 7 * n, chunks=6, hours_ago=2 + n / 9) for n, name in enumerate(names)]
    databases[1:3] = [replace(databases[1], failed=2), replace(databases[2], hours_ago=51.0)]
    with tempfile.TemporaryDirectory() as folder:
        make_states({f"{folder}/{one.name}": one for one in databases})
        states = [f"  - ./{name}" for name in (*names, "visits")]
        Path(folder, "floodmark.yaml").write_text("\n".join(("states:", *states, "")), encoding="utf-8")
        terminal = Terminal(Path(folder), {"PATH": os.environ["PATH"], "HOME": folder, "TERM": "xterm-256color"})
        shown = re.sub(
            rf"(?m)^{folder}/\w+", lambda cell: f"/lake/{Path(cell[0]).name}".ljust(len(cell[0])), terminal("status")
        )
        picture("status-many", "floodmark status", shown.replace(f"{folder}/", "/lake/"))


def main() -> None:
    """Play a night that was stopped, a first run, and a quiet day, and write the pictures."""
    picture_many_states()
    with tempfile.TemporaryDirectory() as name, service(Path(name)) as (floodmark, made):
        picture("progress", "floodmark run", last_frame(floodmark("run", until=is_midway)))
        floodmark("run")
        made.live_a_day()
        picture("plan", "floodmark plan", last_words(floodmark("plan")))
        picture("run", "floodmark run", last_words(floodmark("run")))
        picture("history", "floodmark history", floodmark("history"))
        picture("status", "floodmark status", floodmark("status"))
        picture("diff", "floodmark diff", floodmark("diff"))


if __name__ == "__main__":
    main()
