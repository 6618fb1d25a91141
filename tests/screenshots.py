"""Pictures of the terminal for the README and the docs: `make screenshots` writes docs/images/*.svg from real runs.

A private PostgreSQL server holds the demo's service. Each command runs in a terminal of 100 columns, and rich exports
what it showed. The pictures name no font of another host, so that a reader's browser loads nothing.
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
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

IMAGES = Path(__file__).parents[1] / "docs" / "images"
COLUMNS = 100
PEOPLE = 20_000
# rich's own format, without the lines that load a font from another host.
FORMAT = re.sub(
    r"@font-face \{\{.*?\}\}\s*", "", __import__("rich._export_format", fromlist=["_"]).CONSOLE_SVG_FORMAT, flags=re.S
)
CONFIGURATION = """\
chunk_size: 4MiB
tables:
  exclude: [public.staff_member]
  rules:
    public.person: {masks: {}}
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
        shown = "".join(_read(master, until))
        os.close(master)
        process.wait()
        return shown


def _read(master: int, until: Callable[[str], bool]) -> Iterator[str]:
    shown = ""
    while not until(shown):
        try:
            data = os.read(master, 65536)
        except OSError:  # how Linux tells that the other end is closed
            return
        if not data:
            return
        text = data.decode(errors="replace")
        shown += text
        yield text


def picture(name: str, command: str, shown: str) -> None:
    """Write what a terminal showed as docs/images/NAME.svg."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text(f"$ {command}", style="bold"))
    console.print(Text.from_ansi(shown.replace("\r\n", "\n").rstrip()))
    svg = console.export_svg(title="floodmark", code_format=FORMAT, unique_id=f"floodmark-{name}")
    (IMAGES / f"{name}.svg").write_text(svg + "\n", encoding="utf-8")
