"""A terminal of 80 columns: a command on it, what it shows at a moment, and the keys that someone presses."""

from __future__ import annotations

import os
import pty
import re
import select
import termios
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from fix_child import Child

COLUMNS, LINES = 80, 24
_CODE = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])")


class Screen:
    """The text on a terminal, after the few control codes that a live view uses. Any other code is an error."""

    def __init__(self) -> None:
        self._rows: list[list[str]] = [[]]
        self._row = self._column = 0
        self._rest = ""
        self.cursor_shown = True

    @property
    def lines(self) -> list[str]:
        """What is shown, without empty lines at the end."""
        found = ["".join(row).rstrip() for row in self._rows]
        while found and not found[-1]:
            found.pop()
        return found

    def feed(self, text: str) -> None:
        text, self._rest = self._rest + text, ""
        while text:
            if text[0] == "\x1b":
                code = _CODE.match(text)
                if code is None:
                    assert len(text) < 20, f"an unknown control code: {text[:20]!r}"
                    self._rest = text
                    return
                self._control(code[1], code[2])
                text = text[code.end() :]
            else:
                self._put(text[0])
                text = text[1:]

    def _control(self, number: str, code: str) -> None:
        if code == "A":
            self._row = max(0, self._row - int(number or 1))
        elif code == "K":
            assert number == "2"
            self._rows[self._row] = []
        elif number == "?25":
            self.cursor_shown = code == "h"
        else:
            assert code == "m", f"an unknown control code: {number}{code}"

    def _put(self, letter: str) -> None:
        if letter == "\r":
            self._column = 0
        elif letter == "\n":
            self._down()
        else:
            if self._column == COLUMNS:
                self._column = 0
                self._down()
            row = self._rows[self._row]
            row += [" "] * (self._column + 1 - len(row))
            row[self._column] = letter
            self._column += 1

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self._rows):
            self._rows.append([])


class Terminal:
    """A command that runs on a terminal of its own. `screens` are the pictures that it showed, one after another."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (LINES, COLUMNS))
        self.process = Child(
            command,
            cwd=folder,
            env={**environment, "TERM": "xterm-256color"},
            preexec_fn=partial(os.login_tty, slave),  # so that Ctrl-C reaches it
            pass_fds=[slave],
        )
        os.close(slave)
        self.screen = Screen()
        self.screens: list[str] = []
        self._open = True

    @property
    def text(self) -> str:
        return "\n".join(self.screen.lines)

    def until(self, pattern: str, patience: float = 30) -> str:
        """Wait until the screen shows this. Returns the screen."""
        deadline = time.monotonic() + patience
        while not re.search(pattern, self.text):
            assert self._open and time.monotonic() < deadline, f"it never shows {pattern!r}: {self.screens[-5:]}"
            self._read(0.2)
        return self.text

    def press_ctrl_c(self) -> None:
        os.write(self._master, b"\x03")

    def end(self, patience: float = 60) -> tuple[int, list[str]]:
        """Wait for the command's end. Returns its exit code and what is on the screen then."""
        deadline = time.monotonic() + patience
        while self._open:
            assert time.monotonic() < deadline, f"it does not end: {self.text}"
            self._read(0.2)
        os.close(self._master)
        return self.process.wait(10), self.screen.lines

    def _read(self, patience: float) -> None:
        if not select.select([self._master], [], [], patience)[0]:
            return
        try:
            data = os.read(self._master, 65536)
        except OSError:  # how Linux tells that the other end is closed
            data = b""
        self._open = bool(data)
        self.screen.feed(data.decode("utf-8", "replace"))
        self.screens.append(self.text)
