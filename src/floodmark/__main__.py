"""The entry point of `floodmark` and of `python -m floodmark`. It takes signals from the first moment on.

Ctrl-C and SIGTERM can come while the command's modules are loading, or before it begins to watch for them. Nothing is
begun then, so one word is enough.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import FrameType

from floodmark.cli.version_text import write_version


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command in the same way as Ctrl-C does."""

    signal_number = signal.SIGTERM


def main() -> int:
    """Run the command line and return its exit code. Raises nothing."""
    signal.signal(signal.SIGTERM, _terminate)
    gc.disable()  # nothing that an import makes is garbage
    try:
        if sys.argv[1:] == ["--version"] and write_version():
            return 0
        from floodmark.cli.main import main as command_line  # noqa: PLC0415 - by need: a signal can end the import

        return command_line()
    except KeyboardInterrupt as stopped:
        os.write(2, b"Stopped.\n")
        return 128 + getattr(stopped, "signal_number", signal.SIGINT)
    finally:
        gc.freeze()  # so that the interpreter does not look for garbage once more before it ends
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # all is said, and the exit code tells it


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


if __name__ == "__main__":
    sys.exit(main())
