"""The places where data is written: S3 prefixes and local folders, and the options that a put can have there.

One check serves destinations, state locations, deliveries and load targets, whether they come from the configuration or
from the Python API. It makes no request.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from msgspec import Struct

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_OTHER_SCHEME = re.compile(r"[A-Za-z][\w+.-]*:/")
_EITHER = "Write s3://bucket/prefix, or a folder's path, such as ./folder."
_S3 = "Write s3://bucket/prefix."
_FILE = "file://"
_EXPLICIT = ("/", "./", "../")
# A name that can be repeated in a message: that of a bucket and a prefix. Another text could be a mistaken secret.
_SHOWABLE = re.compile(r"[a-z0-9][a-z0-9.-]{2,62}(?:/[a-z0-9._/=-]*)?", re.ASCII)


class Problem(Struct, frozen=True):
    """A reason to refuse a place or an option of it. `option` is None if the place itself is refused."""

    why: str
    hint: str
    option: str | None = None


def bucket_of(url: str) -> str | None:
    """Return the bucket of an s3:// URL, None for a local folder."""
    return url[5:].partition("/")[0] if url.startswith("s3://") else None


def file_path(url: str) -> str | None:
    """Return the path of a `file://` URL, or None if it is not one with an absolute path, percent-encoded."""
    parts = urlsplit(url)
    good = parts.scheme == "file" and parts.netloc in ("", "localhost") and not parts.query and not parts.fragment
    return unquote(parts.path) if good and parts.path.startswith("/") else None


def place_problem(url: str) -> Problem | None:
    """Return why a place can't be used, or None. No part of the URL is repeated, except a name that fits a bucket.

    A name without a scheme can mean a bucket. So a folder must exist, or have a path that only a folder can have.
    """
    if not url.strip():
        return Problem("it is empty", _EITHER)
    if any(ord(letter) < 32 for letter in url):
        return Problem("it holds control characters", _EITHER)
    name = bucket_of(url)
    return _folder_problem(url) if name is None else _s3_problem(url, name)


def option_problem(url: str, acl: str | None, sse: str | None, kms_key_id: str | None) -> Problem | None:
    """Return the first option that a put to this place can't have, or None.

    An option that is not set is None. An empty URL means that the place is not known yet.
    """
    if url and bucket_of(url) is None:
        given = (("acl", acl), ("sse", sse), ("kms_key_id", kms_key_id))
        for option in (name for name, value in given if value is not None):
            return Problem("it applies to S3 only, and the place is a local folder", f"Remove {option}.", option)
    if kms_key_id is not None and not (sse or "").startswith("aws:kms"):
        return Problem("a KMS key needs sse: aws:kms", "Set sse: aws:kms.", "kms_key_id")
    return None


def places_overlap(one: str, other: str) -> bool:
    """Return True if two places share a bucket, or one folder lies in the other."""
    if bucket_of(one) is not None or bucket_of(other) is not None:
        return bucket_of(one) == bucket_of(other)
    a, b = Path(one).resolve(), Path(other).resolve()
    return a == b or a in b.parents or b in a.parents


def either_contains(one: str, other: str) -> bool:
    """Return True if two places are the same, or one lies within the other."""
    if (bucket_of(one) is None) != (bucket_of(other) is None):
        return False
    if bucket_of(one) is None:
        one, other = str(Path(one).resolve()), str(Path(other).resolve())
    a, b = f"{one.rstrip('/')}/", f"{other.rstrip('/')}/"
    return a.startswith(b) or b.startswith(a)


def _s3_problem(url: str, name: str) -> Problem | None:
    if "@" in name or ":" in name:
        hint = "boto3 finds the keys elsewhere (docs/deploy.md). Set AWS_ENDPOINT_URL_S3 for an endpoint."
        return Problem("credentials or a port in the URL", f"{_S3} {hint}")
    if not _BUCKET.match(name):
        return Problem("it names no bucket", _S3)
    if "?" in url or "#" in url:
        return Problem("it holds parameters", f"{_S3} Set AWS_ENDPOINT_URL_S3 for an endpoint.")
    return None


def _folder_problem(url: str) -> Problem | None:
    if url.startswith("s3:"):
        return Problem("it names no bucket", _S3)
    if url[: len(_FILE)].lower() == _FILE:
        bad = file_path(url) is None
        return Problem("it is not file:// with an absolute path, percent-encoded", _EITHER) if bad else None
    if _OTHER_SCHEME.match(url):
        return Problem("this kind of URL is not supported", "Write s3://bucket/prefix, or a folder's path as it is.")
    if url.startswith("~"):
        return Problem("~ means nothing here", "Write the folder's path in full.")
    return None if url.startswith(_EXPLICIT) or _is_folder(url) else _unclear(url)


def _is_folder(path: str) -> bool:
    with suppress(OSError, ValueError):
        return Path(path).is_dir()
    return False


def _unclear(url: str) -> Problem:
    """Return the problem of a name that is no existing folder, with both spellings of what it can mean."""
    shown = url.rstrip("/") if _SHOWABLE.fullmatch(url) else "NAME"
    hint = f"Write s3://{shown} for a bucket, or ./{shown} for a folder."
    return Problem("it has no s3:// and is not an existing folder", hint)
