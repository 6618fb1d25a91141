"""The native encoder: a compiled module that makes lines from PostgreSQL's binary rows. An installation can lack it.

Without it the server makes the lines. Both ways give the same bytes. The module itself is `floodmark.native.encoder`.
It is not imported here, because most commands do not need it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Literal

from floodmark.errors import ConfigError

EncoderName = Literal["native", "server"]
VARIABLE = "FLOODMARK_ENCODER"


def is_built() -> bool:
    """Return True if the compiled module was built for this Python."""
    return find_spec("floodmark.native.encoder") is not None


def usual_encoder() -> EncoderName:
    """Return the maker of lines if nobody chooses one."""
    return "native" if is_built() else "server"


def encoder_in_use(environ: Mapping[str, str]) -> EncoderName:
    """Return the maker of PostgreSQL's lines: the variable's choice, else native if it was built.

    Raises ConfigError for an unknown choice, and for `native` if it was not built.
    """
    chosen = environ.get(VARIABLE, "")
    if chosen == "server":
        return "server"
    if chosen not in ("", "native"):
        raise ConfigError(
            "can't choose the encoder",
            on=VARIABLE,
            why="it is neither native nor server",
            hint="Unset it: the native encoder is used if it was built.",
        )
    if chosen == "native" and not is_built():
        raise ConfigError(
            "can't use the native encoder",
            on=VARIABLE,
            why="it was not built for this Python",
            hint="Install a C compiler and Python's headers, then install Floodmark again; or set it to server.",
        )
    return usual_encoder()
