"""Child processes that end in any case."""

from __future__ import annotations

import subprocess
from threading import Timer
from typing import Any


class Child(subprocess.Popen[bytes]):
    """A process that is killed after `patience` seconds, so that nobody waits for it, or reads from it, for ever.

    Popen's own time limits don't reach far enough: leaving its `with` block waits for the process without any.
    """

    def __init__(self, *arguments: Any, patience: float = 300, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._watchdog = Timer(patience, self.kill)
        self._watchdog.daemon = True
        self._watchdog.start()

    def wait(self, timeout: float | None = None) -> int:
        code = super().wait(timeout)
        self._watchdog.cancel()
        return code
