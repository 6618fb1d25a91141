"""The native encoder: a compiled module that makes lines from PostgreSQL's binary rows. An installation can lack it.

Without it the server makes the lines. Both ways give the same bytes. The module itself is `floodmark.native.encoder`.
Most commands do not need it, so only `load_encoder` imports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Literal

from floodmark.errors import ConfigError
from floodmark.version import __version__

EncoderName = Literal["native", "server"]
VARIABLE = "FLOODMARK_ENCODER"
_MODULE = "floodmark.native.encoder"


def is_built() -> bool:
    """Return True if the compiled module was built for this Python."""
    return find_spec(_MODULE) is not None


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


def load_encoder() -> ModuleType:
    """Return the compiled module. Raises ConfigError if this system can't load it, or if it is another version's.

    A module that an earlier version left behind could make other lines.
    """
    why = "it was built for another system, or a library is missing"
    try:
        encoder = import_module(_MODULE)
    except ImportError:
        pass
    else:
        if is_of_this_version(encoder):
            return encoder
        why = "it was built from another version of Floodmark"
    raise ConfigError(
        "can't load the native encoder", why=why, hint=f"Install Floodmark again, or set {VARIABLE}=server."
    )


def is_of_this_version(module: ModuleType) -> bool:
    """Return True if a compiled module was built from this version of Floodmark."""
    return getattr(module, "VERSION", None) == __version__
