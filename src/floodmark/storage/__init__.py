"""The storage of bytes. `open_storage` makes a store from a URL; `base` states the obligations of every store."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from floodmark.errors import ConfigError
from floodmark.places import file_path, option_problem, place_problem
from floodmark.storage.base import Storage, StorageOptions
from floodmark.storage.local import LocalStorage
from floodmark.storage.put_only import PutOnlyStorage

if TYPE_CHECKING:
    from floodmark.storage.s3 import S3Storage

__all__ = ["StorageOptions", "kept_storage", "open_storage", "open_storages"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def open_storage(url: str, options: StorageOptions) -> Storage:
    """Return a store for `s3://bucket/prefix[/]`, `file:///path` or a plain path. Makes no request.

    Raises ConfigError for any other URL, and for options that a store can't have. Raises StorageError if boto3's own
    configuration can't be read.
    """
    scheme = _SCHEME.match(url)
    if scheme is not None and scheme[1].lower() == "s3":
        return _kept(_open_s3(url[scheme.end() :], options), options)
    if scheme is not None and scheme[1].lower() == "file":
        return _open_folder(_file_path(url), options)
    if scheme is not None:
        _refuse(f"{scheme[0]}…", "this kind of URL is not supported")
    if not url.strip():
        _refuse(repr(url), "it is empty")
    return _open_folder(url, options)


@lru_cache(maxsize=16)
def kept_storage(url: str, options: StorageOptions = StorageOptions()) -> Storage:  # noqa: B008 - frozen
    """Return the store of this place that this process keeps for all tasks of others. A client of S3 takes 0.05 s."""
    return open_storage(url, options)


def open_storages(urls: Sequence[str], options: StorageOptions) -> list[Storage]:
    """Return a store for each URL, as `open_storage` does. Those on S3 share one client."""
    opened: list[Storage] = []
    connected: S3Storage | None = None
    for url in urls:
        scheme = _SCHEME.match(url)
        if scheme is None or scheme[1].lower() != "s3":
            opened.append(open_storage(url, options))
            continue
        connected = _open_s3(url[scheme.end() :], options, connected)
        opened.append(_kept(connected, options))
    return opened


def _open_s3(place: str, options: StorageOptions, connected: S3Storage | None = None) -> S3Storage:
    problem = place_problem(f"s3://{place}")
    if problem is not None:
        _refuse("s3://…", problem.why)
    wrong = option_problem(f"s3://{place}", options.acl, options.sse, options.kms_key_id)
    if wrong is not None:
        raise ConfigError(f"{wrong.option} can't be used", why=wrong.why, hint=wrong.hint)
    bucket, _, prefix = place.partition("/")
    from floodmark.storage.s3 import S3Storage  # noqa: PLC0415 - by need: boto3 takes 0.15 s to load

    return S3Storage(bucket, prefix.strip("/"), options, connected=connected)


def _kept(store: S3Storage, options: StorageOptions) -> Storage:
    """Return the store as its options ask for it."""
    return store if options.conditional else PutOnlyStorage(store, store.check_credentials)


def _open_folder(path: str, options: StorageOptions) -> Storage:
    if "\0" in path:
        _refuse(repr(path), "it holds a NUL byte")
    store = LocalStorage(Path(path))
    return store if options.conditional else PutOnlyStorage(store, store.check_writable)


def _file_path(url: str) -> str:
    path = file_path(url)
    if path is None:
        _refuse("file://…", "it is not file:// with an absolute path, percent-encoded")
    return path


def _refuse(url: str, why: str) -> NoReturn:
    raise ConfigError(
        "the URL of a destination or state can't be used",
        on=url,
        why=why,
        hint="Write s3://bucket/prefix, file:///folder, or a folder's path.",
    )
