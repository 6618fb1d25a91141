"""Copies that a store makes by itself. AWS answers with the copy's SHA-256; SeaweedFS copies and keeps it, but does not
say so in its answer: there it is looked up for it, or Floodmark must not believe the copy."""

from __future__ import annotations

import hashlib

from fix_storage import S3Bucket
from floodmark.storage.base import Storage, StorageOptions
from floodmark.storage.copying import Copier
from floodmark.storage.probe import body_of
from floodmark.storage.s3 import S3Storage

BODY = b'{"id":1}\n'
DIGEST = hashlib.sha256(BODY).hexdigest()
TO_ZONE = StorageOptions(acl="bucket-owner-full-control", sse="AES256", conditional=False)


class Asked(S3Storage):
    """Keeps count of what it was asked to copy."""

    asked: tuple[str, ...] = ()

    def copy_from(self, other: Storage, from_key: str, etag: str, key: str) -> str | None:
        self.asked += (key,)
        return super().copy_from(other, from_key, etag, key)


class Vouching(Asked):
    """Answers as AWS does."""

    def copy_from(self, other: Storage, from_key: str, etag: str, key: str) -> str | None:
        super().copy_from(other, from_key, etag, key)
        found = self.stat(key)
        return None if found is None else found.sha256


def test_a_copy_is_believed_where_the_store_vouches_for_it(s3_bucket: S3Bucket) -> None:
    source, target = S3Storage(s3_bucket.name, "lake"), Vouching(s3_bucket.name, "zone", TO_ZONE)
    source.put("data/a%20b c", body_of(BODY))
    copier = Copier(source, target)
    assert copier.copied("data/a%20b c", len(BODY), DIGEST, "data/x%20y")
    made = s3_bucket.client.get_object(Bucket=s3_bucket.name, Key="zone/data/x%20y")
    assert made["Body"].read() == BODY

    assert not copier.copied("data/gone", len(BODY), DIGEST, "data/y")
    assert not copier.copied("data/a%20b c", len(BODY), "0" * 64, "data/y")
    assert not copier.copied("data/a%20b c", len(BODY) + 1, DIGEST, "data/y")
    assert target.asked == ("data/x%20y",), "nothing is copied that is not what it should be"
    assert copier.copied("data/a%20b c", len(BODY), DIGEST, "data/y"), "one object's trouble is not the store's"


def test_a_store_that_does_not_vouch_is_not_asked_again(s3_bucket: S3Bucket) -> None:
    source, target = S3Storage(s3_bucket.name, "lake"), Asked(s3_bucket.name, "zone", TO_ZONE)
    source.put("a", body_of(BODY))
    copier = Copier(source, target)
    assert not copier.copied("a", len(BODY), DIGEST, "b") and not copier.copied("a", len(BODY), DIGEST, "c")
    assert target.asked == ("b",)
