"""The image's entry point as a process, in the folder that the image's WORKDIR would be."""

from __future__ import annotations

import sys

from fix_command import Floodmark
from fix_tools import ROOT

ENTRYPOINT = ROOT / "ops/image/entrypoint.py"


class Container(Floodmark):
    """A container of the image, which has nothing but its environment and its arguments."""

    warm = False

    @staticmethod
    def command(*arguments: str) -> list[str]:
        return [sys.executable, str(ENTRYPOINT), *arguments]
