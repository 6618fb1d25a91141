"""Every object key, in one place, and what each kind of receiver demands of a destination.

Keys are relative to the destination or to the state location. Their shape is part of the format
(docs/format.md): consumers take keys from the manifest and never build them.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import quote, unquote_to_bytes

from msgspec import Struct

from floodmark.model import Compression, Encoding, TableName

LayoutName = Literal["plain", "moj-landing"]

HEAD = "head.json"
INFLIGHT = "inflight.json"

_SUFFIX: dict[Compression, str] = {"none": "", "gzip": ".gz", "zstd": ".zst"}
_TIMESTAMP = "%Y%m%d%H%M%SZ"
_KEY_TIMESTAMP = re.compile(r"/extraction_timestamp=(\d{14}Z)/")
_KEY_NAMES = re.compile(r"data/database_name=([^/]+)/table_name=([^/]+)/")
_TABLE_PREFIX = re.compile(r"(data/database_name=[^/]+/)table_name=[^/]+/")
_DATA_KEY = re.compile(
    r"data/database_name=[\w%-]+/table_name=(?P<table>[\w%.-]+)/extraction_timestamp=\d{14}Z/"
    r"(?P=table)-\d{5,}\.[a-z]+(\.gz|\.zst)?",
    re.ASCII,
)
TIMESTAMP = re.compile(r"\d{14}Z")

# File systems take so many bytes between two slashes.
_MOST_BYTES = 255
_DIGEST_DIGITS = 32
# No encoded name holds it, since `-` stays as it is: so no name is another one's shortened form.
_SHORTENED = "%2D"
_KEPT_BYTES = 160


class Layout(Struct, frozen=True):
    """What the receiver of a destination demands.

    `objects_stay` is False where the receiver moves objects away: nothing put there can be named again,
    looked at, or conditionally written. `max_object_bytes` is the largest object it takes.
    """

    name: LayoutName
    objects_stay: bool
    max_object_bytes: int | None
    database_needs_underscore: bool


PLAIN = Layout("plain", objects_stay=True, max_object_bytes=None, database_needs_underscore=False)
MOJ_LANDING = Layout(
    "moj-landing", objects_stay=False, max_object_bytes=5 * 1024**3 - 1, database_needs_underscore=True
)
LAYOUTS: dict[LayoutName, Layout] = {"plain": PLAIN, "moj-landing": MOJ_LANDING}


def encoded(name: str) -> str:
    """A name with every byte outside [A-Za-z0-9_-] percent-encoded, so that it is one path segment."""
    return quote(name, safe="").replace(".", "%2E").replace("~", "%7E")


def fitting(name: str, *, beside: int) -> str:
    """An encoded name as it is if a part of a key can hold it beside so many other bytes, else a shortened form.

    The shortened form is the name's beginning and a digest of the whole name.
    """
    if len(name) + beside <= _MOST_BYTES:
        return name
    return f"{_beginning(name)}{_SHORTENED}{hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_DIGITS]}"


def _beginning(name: str) -> str:
    """The first bytes of an encoded name, without the half of an escape or of a letter at its end."""
    kept = re.sub("%.?$", "", name[:_KEPT_BYTES])
    while not _is_text(kept):
        kept = kept[: kept.rindex("%")]
    return kept


def _is_text(name: str) -> bool:
    try:
        unquote_to_bytes(name).decode()
    except UnicodeDecodeError:
        return False
    return True


def default_schema(dialect: str) -> str:
    """The schema whose tables stand in keys by their name alone."""
    return "main" if dialect == "sqlite" else "public"


def table_segment(table: TableName, default_schema: str) -> str:
    """`name` in the source's default schema (public; SQLite's main), `schema.name` otherwise, each part encoded."""
    if table.schema == default_schema:
        return encoded(table.name)
    return f"{encoded(table.schema)}.{encoded(table.name)}"


def database_segment(layout: Layout, database: str, override: str | None, table: TableName) -> str:
    """What stands for the database in a table's keys: `override`, or what the layout makes of its name."""
    if override is not None:
        return override
    return f"{database}_{table.schema}" if layout.database_needs_underscore else database


def data_key(database: str, segment: str, timestamp: str, number: int, encoding: Encoding) -> str:
    """The key of one chunk's object, relative to the destination. `segment` is the table's."""
    folder, ending = "table_name=", f"-{number:05d}{suffix(encoding)}"
    place = fitting(encoded(database), beside=len("database_name="))
    table = fitting(segment, beside=max(len(folder), len(ending)))
    return f"data/database_name={place}/{folder}{table}/extraction_timestamp={timestamp}/{table}{ending}"


def manifest_key(run_id: str, rebase: int = 0) -> str:
    """The key of a run's manifest; each rebase onto another run's commit writes a new one."""
    return f"manifests/{run_id}.json" if rebase == 0 else f"manifests/{run_id}.r{rebase}.json"


def progress_key(run_id: str) -> str:
    return f"progress/{run_id}.json"


def cursor_key(name: str) -> str:
    """The key of what a consumer or a delivery has taken."""
    return f"cursors/{name}.json"


def is_data_key(key: str) -> bool:
    """Whether a key has the form of `data_key`."""
    return _DATA_KEY.fullmatch(key) is not None


def encoding_of(key: str) -> Encoding:
    """How the object of a data key is written, as far as the key tells: its format and its compression."""
    compression: Compression = "gzip" if key.endswith(".gz") else "zstd" if key.endswith(".zst") else "none"
    return Encoding("csv" if key.removesuffix(_SUFFIX[compression]).endswith(".csv") else "jsonl", compression)


def suffix(encoding: Encoding) -> str:
    """What the keys of objects that are written so end with."""
    return f".{encoding.format}{_SUFFIX[encoding.compression]}"


def table_prefix(data_key: str, *, database_only: bool = False) -> str | None:
    """What all data keys of the same table (or of its whole database) begin with; None for a key that is none."""
    found = _TABLE_PREFIX.match(data_key)
    return None if found is None else found[1] if database_only else found[0]


def key_names(data_key: str) -> tuple[str, str] | None:
    """What stands for the database and for the table in a data key, as it is written there; None where it is none."""
    found = _KEY_NAMES.match(data_key)
    return (found[1], found[2]) if found else None


def timestamp_of(data_key: str) -> str | None:
    """The extraction_timestamp that a data key holds."""
    found = _KEY_TIMESTAMP.search(data_key)
    return found[1] if found else None


def timestamp_text(moment: datetime) -> str:
    """`YYYYmmddHHMMSSZ`, in UTC."""
    return moment.astimezone(UTC).strftime(_TIMESTAMP)


def timestamp_moment(text: str) -> datetime:
    """The inverse of `timestamp_text`. Raises ValueError."""
    return datetime.strptime(text, _TIMESTAMP).replace(tzinfo=UTC)
