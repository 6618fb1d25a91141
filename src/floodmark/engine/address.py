"""The address of a Dask scheduler, as people write it: dask://host:8786, or dask+tls:// for a scheduler with TLS."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from msgspec import Struct

_SCHEMES = {"dask": False, "dask+tls": True}
_PORT = 8786
ADDRESS_HINT = "Write dask://HOST:8786, or dask+tls://HOST:8786."


class DaskAddress(Struct, frozen=True):
    """The host and port of a scheduler, and if its connections are encrypted."""

    host: str
    port: int = _PORT
    encrypted: bool = False

    @property
    def text(self) -> str:
        return f"{'dask+tls' if self.encrypted else 'dask'}://{self._place}"

    @property
    def contact(self) -> str:
        """Return the address as Dask writes it."""
        return f"{'tls' if self.encrypted else 'tcp'}://{self._place}"

    @property
    def is_local(self) -> bool:
        """Return True if the host is this machine, by a name or a number that always means it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def _place(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_address(text: str) -> DaskAddress:
    """Parse an address. Raises ValueError, whose text does not repeat it."""
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        raise ValueError("it is not a URL") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError("it does not begin with dask:// or dask+tls://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("it holds a user or a password, which Dask does not know")
    if not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("it is not a host and a port")
    return DaskAddress(parts.hostname, _PORT if port is None else port, _SCHEMES[parts.scheme])
