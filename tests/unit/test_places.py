"""The check of places, by itself and as the configuration and the stores use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from floodmark.config.receivers import place_settings
from floodmark.config.urls import check_place
from floodmark.errors import ConfigError
from floodmark.places import either_contains, file_path, option_problem, place_problem, places_overlap
from floodmark.storage import StorageOptions, open_storage


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("s3://a/x", "s3://a/y", True),
        ("s3://a/x", "s3://b/x", False),
        ("s3://a", "s3://a/", True),
        ("s3://a/x", "a/x", False),
        ("out", "out/state", True),
        ("out/state", "./out/", True),
        ("out", "outer", False),
    ],
)
def test_overlap(one: str, other: str, same: bool) -> None:
    assert places_overlap(one, other) is same
    assert places_overlap(other, one) is same


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("s3://a/x", "s3://a/y", False),
        ("s3://a/x", "s3://a/x/y", True),
        ("s3://a/x", "s3://a/xy", False),
        ("s3://a", "a", False),
        ("out", "./out/state", True),
        ("out", "outer", False),
    ],
)
def test_nested(one: str, other: str, same: bool) -> None:
    assert either_contains(one, other) is same
    assert either_contains(other, one) is same


@pytest.mark.parametrize(
    "url", ["s3://bucket", "s3://bucket/some/prefix/", "/data/out", "./out", "../out", ".", "file:///data/o%20t", "old"]
)
def test_a_place_that_can_be_used(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("old").mkdir()
    assert place_problem(url) is None


@pytest.mark.parametrize(
    ("url", "bucket", "folder"),
    [
        ("my-lake/old", "s3://my-lake/old ", "./my-lake/old "),
        ("my-lake/old/", "s3://my-lake/old ", "./my-lake/old "),
        ("my.lake", "s3://my.lake ", "./my.lake "),
        ("file", "s3://file ", "./file "),
        (r"C:\out", "s3://NAME ", "./NAME "),
        ("S3cret+Key/Value", "s3://NAME ", "./NAME "),
        ("x" * 5000, "s3://NAME ", "./NAME "),
    ],
)
def test_a_name_that_can_be_a_bucket_is_no_folder_unless_it_exists(
    url: str, bucket: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Release 0.1.0 landed a whole database in a folder of this name, with exit code 0."""
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    problem = place_problem(url)
    assert problem is not None and bucket in problem.hint and folder in problem.hint


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///data/o%20t", "/data/o t"),
        ("FILE://localhost/data", "/data"),
        ("file://host/data", None),
        ("file:data", None),
        ("file:///data?x", None),
    ],
)
def test_the_path_of_a_file_url(url: str, path: str | None) -> None:
    assert file_path(url) == path
    problem = place_problem(url)
    assert (problem is None) is (path is not None)
    if path is not None:
        assert check_place(url, "--state") == path, "everything below sees the folder"


@pytest.mark.parametrize(
    ("url", "options", "refused"),
    [
        ("out", {"acl": "private"}, "acl"),
        ("out", {"sse": "AES256"}, "sse"),
        ("out", {"kms_key_id": "k", "sse": "aws:kms"}, "sse"),
        ("s3://b", {"kms_key_id": "k"}, "kms_key_id"),
        ("", {"kms_key_id": "k", "sse": "AES256"}, "kms_key_id"),
        ("s3://b", {"kms_key_id": "k", "sse": "aws:kms:dsse", "acl": "private"}, None),
        ("", {"acl": "private"}, None),
        ("out", {}, None),
    ],
)
def test_options_that_a_place_can_t_have(url: str, options: dict[str, str], refused: str | None) -> None:
    problem = option_problem(url, *(options.get(name) for name in ("acl", "sse", "kms_key_id")))
    assert (None if problem is None else problem.option) == refused


@pytest.mark.parametrize("path", ["destination", "deliver[0]"])
@pytest.mark.parametrize(
    ("chosen", "layout", "field"),
    [
        ({"acl": "private"}, "plain", "acl"),
        ({"database_name": " "}, "plain", "database_name"),
        ({"database_name": "x"}, "moj-landing", "database_name"),
        ({"compression": "gzip"}, "moj-landing", "compression"),
    ],
)
def test_a_destination_and_a_delivery_are_refused_alike(
    path: str, chosen: dict[str, str], layout: Any, field: str
) -> None:
    """Release 0.1.0 accepted an empty database_name for a delivery."""
    with pytest.raises(ConfigError) as refused:
        place_settings(chosen, "out", layout, path, "floodmark.yaml")
    assert refused.value.on == f"{path}.{field} (floodmark.yaml)"


def test_a_receiver_s_demands_give_way_to_what_is_chosen() -> None:
    found = place_settings({"acl": "private"}, "s3://moj-reg-x", "moj-landing", "destination", "floodmark.yaml")
    assert found == {"acl": "private", "sse": "AES256", "compression": "none"}
    assert place_settings({}, "out", "moj-landing", "destination", "floodmark.yaml") == {"compression": "none"}


@pytest.mark.parametrize("url", ["s3://bucket/x?endpoint=y", "s3://bucket/x#y"])
def test_a_store_refuses_what_the_configuration_refuses(url: str) -> None:
    with pytest.raises(ConfigError, match="parameters"):
        open_storage(url, StorageOptions())
