"""URLs and options: what store they make, and what is refused before any request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from floodmark.errors import ConfigError, StorageDenied, StorageError
from floodmark.storage import StorageOptions, open_storage, open_storages
from floodmark.storage.base import IfAbsent, Storage
from floodmark.storage.local import LocalStorage
from floodmark.storage.probe import body_of
from floodmark.storage.s3 import S3Storage

LANDING = StorageOptions(conditional=False)


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/some/prefix", "s3://bucket/some/prefix"),
        ("s3://bucket/some/prefix//", "s3://bucket/some/prefix"),
        ("S3://bucket.with-dots/a%20b", "s3://bucket.with-dots/a%20b"),
    ],
)
def test_s3_urls(url: str, same: str) -> None:
    store = open_storage(url, StorageOptions())
    assert isinstance(store, S3Storage)
    assert store.url == same


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/data/out", "/data/out"),
        ("file:///data/out", "/data/out"),
        ("file://localhost/data/a%20b", "/data/a b"),
        ("/data/a%20b", "/data/a%20b"),
        ("out", str(Path.cwd() / "out")),
    ],
)
def test_folders(url: str, path: str) -> None:
    store = open_storage(url, StorageOptions())
    assert isinstance(store, LocalStorage)
    assert store.url == path


@pytest.mark.parametrize(
    "url",
    [
        *("", " ", "s3://", "s3:///prefix", "s3://CANARY:CANARY@bucket/prefix", "gs://bucket", "s3://buck et/x"),
        *("https://CANARY@host/bucket", "file://host/CANARY", "file://relative", "file:///x?CANARY", "a\0b"),
    ],
)
def test_other_urls_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="s3://bucket/prefix") as caught:
        open_storage(url, StorageOptions())
    assert "CANARY" not in str(caught.value)


def test_a_key_needs_its_kind_of_encryption() -> None:
    with pytest.raises(ConfigError, match="aws:kms"):
        open_storage("s3://bucket", StorageOptions(sse="AES256", kms_key_id="k"))
    assert open_storage("s3://bucket", StorageOptions(sse="aws:kms:dsse", kms_key_id="k")).url == "s3://bucket"


def test_opening_a_folder_touches_nothing(tmp_path: Path) -> None:
    store = open_storage(str(tmp_path / "new"), StorageOptions())
    assert store.stat("key") is None
    assert list(store.list("")) == []
    store.delete("key")
    assert not (tmp_path / "new").exists()


REFUSED: list[Callable[[Storage], Any]] = [
    lambda store: store.put("key", body_of(b"x"), IfAbsent()),
    lambda store: store.get("key"),
    lambda store: store.open("key"),
    lambda store: store.stat("key"),
    lambda store: store.delete("key"),
    lambda store: store.list(""),
]


@pytest.mark.parametrize("forbidden", REFUSED)
def test_a_landing_zone_is_put_to_and_never_looked_at(tmp_path: Path, forbidden: Callable[[Storage], Any]) -> None:
    store = open_storage(str(tmp_path), LANDING)
    store.put("key", body_of(b"first"))
    store.put("key", body_of(b"second"))
    with pytest.raises(StorageError, match="landing zone"):
        forbidden(store)
    assert (tmp_path / "key").read_bytes() == b"second"


def test_checking_a_landing_folder_puts_no_object(tmp_path: Path) -> None:
    open_storage(str(tmp_path), LANDING).check()
    assert list(tmp_path.iterdir()) == []


def test_without_credentials_a_landing_zone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StorageDenied, match="AWS_ACCESS_KEY_ID"):
        open_storage("s3://bucket", LANDING).check()


def test_a_profile_that_is_not_there_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StorageDenied, match="ProfileNotFound"):
        open_storage("s3://bucket", StorageOptions())


def test_several_stores_share_one_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client takes 13 MB and 0.15 s: an exporter of 60 states could not have one for each."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    places = ["s3://lake/a", str(tmp_path), "S3://other/b/"]
    one, folder, other = open_storages(places, StorageOptions())
    assert (one.url, other.url) == ("s3://lake/a", "s3://other/b") and isinstance(folder, LocalStorage)
    assert isinstance(one, S3Storage) and isinstance(other, S3Storage) and one._s3 is other._s3
