"""The types of the compiled encoder, for callers and mypy."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from typing_extensions import Buffer

class MalformedRows(ValueError):
    """Bytes from the server that are not the planned rows. The text gives places and lengths, never a row's bytes."""

class Libpq:
    """The functions of the libpq that a loaded module was linked with. `module` is the module's path.

    Raises OSError if it is not loaded, or if one of them is not found.
    """

    version: int

    def __init__(self, module: bytes) -> None: ...

class Encoder:
    """An encoder of one table's rows. Use one in each thread.

    A field is a column's name, its kind, and optionally the type's oid that `record_send` must give for it (0, or none:
    any oid). If rows are `marked`, a message has one more field after a row's own, which is no part of the line: the
    row is marked if it is not null. Raises ValueError for an unknown kind or option.
    """

    def __init__(
        self,
        fields: Sequence[tuple[str, str] | tuple[str, str, int]],
        row_format: Literal["jsonl", "csv"],
        quote_large: bool = False,
        *,
        server_version: int = 180000,
        marked: bool = False,
    ) -> None: ...
    @property
    def marks(self) -> int:
        """Return how many rows were marked so far."""

    def header(self) -> bytes:
        """Return CSV's line of names, with its newline; for JSON Lines, nothing."""

    def records(self, data: Buffer) -> tuple[memoryview, int]:
        """Encode concatenated values of `record_send`. Return the lines, each with its newline, and their number.

        Drop the view before the next call, and the next call reuses its memory. A view that is kept stays valid.
        Raises MalformedRows.
        """

    def message(self, data: Buffer) -> tuple[memoryview, int]:
        """Encode the rows in CopyData messages of `COPY … (FORMAT binary)`, one or several together, as `records` does.

        The stream's header, at the start of its first message, and its trailer give no line.
        """

    def receive(self, libpq: Libpq, connection: int, enough: int) -> tuple[memoryview, int, _State]:
        """Take the messages of a COPY from a connection and encode them as `message` does.

        It returns after `enough` bytes of lines, or if nothing has arrived for a tenth of a second. `connection` is
        libpq's pointer. No other thread may use the connection during the call. The third value says how the stream
        goes on:

        - `more`: call again.
        - `end`: the trailer has come.
        - `cut`: the COPY has ended without its trailer. PQgetResult has the reason.
        - `refused`, `lost`: PQgetCopyData or PQconsumeInput failed. A second call of it tells why.

        Raises MalformedRows.
        """

_State: TypeAlias = Literal["more", "end", "cut", "refused", "lost"]
KINDS: frozenset[str]
VERSION: str  # of the Floodmark that it was built from
