"""The keys of all objects, in one place, and the demands that each kind of receiver makes of a destination.

Keys are relative to the destination or to the state location. Their shape is part of the format (docs/format.md):
consumers take keys from the manifest and never build them.
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
NOTIFIED = "notified.json"
SUCCESS = "_SUCCESS"

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

# The most bytes that file systems accept between two slashes.
_MOST_BYTES = 255
_DIGEST_DIGITS = 32
# No encoded name holds this, since `-` stays as it is. So no name equals the shortened form of another.
_SHORTENED = "%2D"
_KEPT_BYTES = 160


class Layout(Struct, frozen=True):
    """The demands of a destination's receiver.

    `objects_stay` is False if the receiver moves objects away. Then an object put there can't be named again, looked
    at, or conditionally written. `max_object_bytes` is the largest object that the receiver takes.
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


def encoded_segment(name: str) -> str:
    """Return a name as one path segment: every byte outside [A-Za-z0-9_-] is percent-encoded."""
    return quote(name, safe="").replace(".", "%2E").replace("~", "%7E")


def fitted_segment(name: str, *, extra: int) -> str:
    """Return an encoded name, shortened if it does not fit into a key segment with `extra` other bytes.

    The shortened form is the beginning of the name and a digest of the whole name.
    """
    if len(name) + extra <= _MOST_BYTES:
        return name
    return f"{_name_beginning(name)}{_SHORTENED}{hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_DIGITS]}"


def _name_beginning(name: str) -> str:
    """Return the first bytes of an encoded name, without a partial escape or character at the end."""
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


def default_schema(dialect: str, database: str) -> str:
    """Return the schema whose tables appear in keys by their name only, unless the manifest names another one.

    In MariaDB and MySQL a schema is a database.
    """
    usual = {"sqlite": "main", "duckdb": "main", "mssql": "dbo", "mariadb": database, "mysql": database}
    return usual.get(dialect, "public")


def table_segment(table: TableName, default_schema: str) -> str:
    """Return `name` in the source's default schema (such as public), else `schema.name`, each part encoded."""
    if table.schema == default_schema:
        return encoded_segment(table.name)
    return f"{encoded_segment(table.schema)}.{encoded_segment(table.name)}"


def catalog_name(name: TableName, default_schema: str) -> str:
    """Return a table's name in a catalog: lower case, with the schema unless it is the source's default schema."""
    whole = name.name if name.schema == default_schema else f"{name.schema}_{name.name}"
    return re.sub(r"[^a-z0-9_]", "_", whole.lower())


def database_segment(layout: Layout, database: str, override: str | None, table: TableName) -> str:
    """Return the database part of a table's keys: `override`, or the name that the layout derives."""
    if override is not None:
        return override
    return f"{database}_{table.schema}" if layout.database_needs_underscore else database


def data_key(database: str, segment: str, timestamp: str, number: int, encoding: Encoding) -> str:
    """Return the key of one chunk's object, relative to the destination. `segment` is the table's."""
    folder, ending = "table_name=", f"-{number:05d}{key_suffix(encoding)}"
    place = fitted_segment(encoded_segment(database), extra=len("database_name="))
    table = fitted_segment(segment, extra=max(len(folder), len(ending)))
    return f"data/database_name={place}/{folder}{table}/extraction_timestamp={timestamp}/{table}{ending}"


def manifest_key(run_id: str, rebase: int = 0) -> str:
    """Return the key of a run's manifest. Each rebase onto another run's commit writes a new manifest."""
    return f"manifests/{run_id}.json" if rebase == 0 else f"manifests/{run_id}.r{rebase}.json"


def progress_key(run_id: str, part: int | None = None) -> str:
    """Return the key of a run's progress, or of a part that holds the earlier chunks of a long one."""
    return f"progress/{run_id}.json" if part is None else f"progress/{run_id}.{part}.json"


def complete_key(run_id: str) -> str:
    """Return the key of the record that a run's commit was announced."""
    return f"complete/{run_id}.json"


def cursor_key(name: str) -> str:
    """Return the key of the cursor of a consumer or a delivery."""
    return f"cursors/{name}.json"


def is_data_key(key: str) -> bool:
    """Return True if a key has the form of `data_key`."""
    return _DATA_KEY.fullmatch(key) is not None


def encoding_of(key: str) -> Encoding:
    """Return the encoding of a data key's object as far as the key tells: its format and its compression."""
    compression: Compression = "gzip" if key.endswith(".gz") else "zstd" if key.endswith(".zst") else "none"
    return Encoding("csv" if key.removesuffix(_SUFFIX[compression]).endswith(".csv") else "jsonl", compression)


def key_suffix(encoding: Encoding) -> str:
    """Return the ending of the keys of objects with this encoding."""
    return f".{encoding.format}{_SUFFIX[encoding.compression]}"


def table_prefix(data_key: str, *, database_only: bool = False) -> str | None:
    """Return the common prefix of all data keys of a table (or of its database), None if the key is not a data key."""
    found = _TABLE_PREFIX.match(data_key)
    return None if found is None else found[1] if database_only else found[0]


def key_names(data_key: str) -> tuple[str, str] | None:
    """Return the database part and the table part of a data key, as written, or None if it is not a data key."""
    found = _KEY_NAMES.match(data_key)
    return (found[1], found[2]) if found else None


def timestamp_of(data_key: str) -> str | None:
    """Return the extraction_timestamp of a data key, None if it has none."""
    found = _KEY_TIMESTAMP.search(data_key)
    return found[1] if found else None


def timestamp_text(moment: datetime) -> str:
    """Return `YYYYmmddHHMMSSZ`, in UTC."""
    return moment.astimezone(UTC).strftime(_TIMESTAMP)


def timestamp_moment(text: str) -> datetime:
    """Return the inverse of `timestamp_text`. Raises ValueError."""
    return datetime.strptime(text, _TIMESTAMP).replace(tzinfo=UTC)
