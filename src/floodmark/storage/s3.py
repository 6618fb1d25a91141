"""S3, and stores that speak its protocol, through boto3.

boto3 finds credentials, proxies and the endpoint (AWS_ENDPOINT_URL_S3) in its usual way. Each put carries the body's
SHA-256, which S3 verifies before the object is visible. Bodies are streamed, never held in memory. boto3's own retries
are off: after one of those, a refused condition would look certain although it is not.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from floodmark.errors import NoConditionalWrites, ObjectMissing
from floodmark.storage.base import Body, Condition, Fetched, IfAbsent, IfMatch, Stat, Storage, StorageOptions
from floodmark.storage.probe import prove_conditions
from floodmark.storage.s3_errors import AccessDenied, bad_endpoint, no_credentials, translated
from floodmark.storage.streams import BLOCK, length, not_as_announced, reader, window

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, GetObjectOutputTypeDef

    Parts = list[CompletedPartTypeDef]

# S3's limits: one PutObject takes 5 GiB, a multipart upload 10,000 parts.
SINGLE_PUT_BYTES = 5 * 1024**3
PART_BYTES = 64 * 1024**2
_MOST_PARTS = 10_000
_CONNECTIONS = 32


class S3Storage:
    """A bucket's prefix. Objects above `single_put_bytes` go up in parts of at least `part_bytes`.

    A broken multipart upload leaves its parts to the bucket's lifecycle rule (AbortIncompleteMultipartUpload):
    Floodmark does not rely on the right to abort. A store shares the client of another one that is `connected` with
    the same options: each client takes 13 MB and 0.15 s.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        options: StorageOptions = StorageOptions(),  # noqa: B008 - frozen
        single_put_bytes: int = SINGLE_PUT_BYTES,
        part_bytes: int = PART_BYTES,
        connected: S3Storage | None = None,
    ) -> None:
        self._bucket, self._options = bucket, options
        self._prefix = f"{prefix}/" if prefix else ""
        self._single_put_bytes, self._part_bytes = single_put_bytes, part_bytes
        self._may_read = False
        self._session: Session
        self._s3: S3Client
        if connected is not None:
            self._session, self._s3 = connected._session, connected._s3
            return
        with translated("connect to S3", self.url):
            self._session = Session()
            try:
                self._s3 = _client(self._session, options)
            except BotoCoreError:
                raise
            except ValueError:  # botocore's error for a URL that it can't read; its text repeats the URL
                raise bad_endpoint(self.url) from None

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def check(self) -> None:
        self.check_credentials()
        try:
            prove_conditions(self)
        except NoConditionalWrites:
            if not self._options.allow_unconditional:
                raise

    def check_credentials(self) -> None:
        """Find the credentials, and fetch them if they belong to a role. Raises StorageDenied."""
        with translated("find credentials", self.url):
            found = self._session.get_credentials()
            if found is None:
                raise no_credentials(self.url)
            found.get_frozen_credentials()

    def put(self, key: str, body: Body, condition: Condition = None) -> str:
        try:
            return self._put(key, body, condition)
        except NoConditionalWrites:
            if not self._options.allow_unconditional:
                raise
        return self._put(key, body, None)

    def get(self, key: str) -> Fetched:
        """Read an object. botocore compares the length, and the SHA-256 if the store keeps it."""
        with self._reading("read an object", key):
            answer = self._opened(key)
            return Fetched(answer["Body"].read(), answer["ETag"])

    def open(self, key: str) -> BinaryIO:
        """Open an object. Length and SHA-256 are compared when the end is read."""
        with self._reading("read an object", key):
            answer = self._opened(key)
        return reader(answer["Body"], lambda: translated("read an object", self._where(key)))

    def stat(self, key: str) -> Stat | None:
        """Return an object's size and etag. A 403 raises StorageDenied if it can mean a missing right."""
        try:
            with self._reading("look at an object", key):
                found = self._s3.head_object(Bucket=self._bucket, Key=self._key(key), ChecksumMode="ENABLED")
        except ObjectMissing:
            return None
        whole = found.get("ChecksumType") != "COMPOSITE"
        return Stat(found["ContentLength"], found["ETag"], _hex(found.get("ChecksumSHA256")) if whole else None)

    @contextmanager
    def _reading(self, what: str, key: str) -> Iterator[None]:
        """Translate errors of reads.

        Without s3:ListBucket, S3 answers a missing key as if a right were missing. Once any object here could be read,
        a refusal means a missing object.
        """
        try:
            with translated(what, self._where(key)):
                yield
            self._may_read = True
        except AccessDenied as denied:
            if not self._may_read:
                raise
            raise ObjectMissing(denied.what, on=denied.on, why=denied.why) from None

    def delete(self, key: str) -> None:
        try:
            with translated("delete an object", self._where(key)):
                self._s3.delete_object(Bucket=self._bucket, Key=self._key(key))
        except ObjectMissing:
            return  # S3 itself answers 204; other stores answer 404

    def list(self, prefix: str) -> Iterator[str]:
        with translated("list objects", self._where(prefix)):
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._key(prefix))
            for page in pages:
                for found in page.get("Contents", ()):
                    yield found["Key"].removeprefix(self._prefix)

    def unfinished(self, before: datetime) -> Iterator[str]:
        """Yield nothing: the bucket's lifecycle rule removes the parts of broken uploads."""
        return iter(())

    def discard(self, name: str) -> None:
        """Do nothing: there are no unfinished items."""

    def copy_from(self, other: Storage, from_key: str, etag: str, key: str) -> str | None:
        """Copy an object as `copying.CanCopy` describes. It needs the right to read there and to put here."""
        bucket, _, prefix = other.url.removeprefix("s3://").partition("/")
        source = f"{prefix}/{from_key}" if prefix else from_key
        with translated("copy an object", self._where(key)):
            answer = self._s3.copy_object(
                Bucket=self._bucket,
                Key=self._key(key),
                CopySource={"Bucket": bucket, "Key": source},
                CopySourceIfMatch=etag,
                ChecksumAlgorithm="SHA256",
                **self._attributes(),
            )
        return _hex(answer["CopyObjectResult"].get("ChecksumSHA256"))

    def _put(self, key: str, body: Body, condition: Condition) -> str:
        if length(body.stream) != body.size:
            raise not_as_announced(self._where(key))
        if body.size > self._single_put_bytes:
            return self._put_in_parts(key, body, condition)
        with translated("put an object", self._where(key), conditional=condition is not None):
            return self._s3.put_object(
                Bucket=self._bucket,
                Key=self._key(key),
                Body=body.stream,
                ChecksumSHA256=_base64(bytes.fromhex(body.sha256)),
                **self._attributes(),
                **_headers(condition),
            )["ETag"]

    def _put_in_parts(self, key: str, body: Body, condition: Condition) -> str:
        """Put an object in parts. Nothing is visible before the last request, which carries the condition."""
        place: dict[str, Any] = {"Bucket": self._bucket, "Key": self._key(key)}
        with translated("put an object in parts", self._where(key), conditional=condition is not None):
            place["UploadId"] = self._s3.create_multipart_upload(
                **place, ChecksumAlgorithm="SHA256", **self._attributes()
            )["UploadId"]
            parts = self._put_parts(place, key, body)
            return self._s3.complete_multipart_upload(**place, MultipartUpload={"Parts": parts}, **_headers(condition))[
                "ETag"
            ]

    def _put_parts(self, place: dict[str, Any], key: str, body: Body) -> Parts:
        whole = hashlib.sha256()
        parts: Parts = []
        step = max(self._part_bytes, -(-body.size // _MOST_PARTS))
        for number, start in enumerate(range(0, body.size, step), 1):
            part = window(body.stream, start, min(step, body.size - start))
            checksum = _base64(_digest(part, whole))
            answer = self._s3.upload_part(**place, PartNumber=number, Body=part, ChecksumSHA256=checksum)
            parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": checksum})
        if whole.hexdigest() != body.sha256:
            raise not_as_announced(self._where(key))
        return parts

    def _opened(self, key: str) -> GetObjectOutputTypeDef:
        return self._s3.get_object(Bucket=self._bucket, Key=self._key(key))

    def _attributes(self) -> dict[str, Any]:
        options = self._options
        given = {"ACL": options.acl, "ServerSideEncryption": options.sse, "SSEKMSKeyId": options.kms_key_id}
        return {name: value for name, value in given.items() if value is not None}

    def _key(self, key: str) -> str:
        return self._prefix + key

    def _where(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{key}"


def _client(session: Session, options: StorageOptions) -> S3Client:
    config = Config(
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=_CONNECTIONS,
        connect_timeout=options.connect_timeout,
        read_timeout=options.read_timeout,
        tcp_keepalive=True,
        # The signature covers the SHA-256 header, which covers the body: over TLS no second pass is needed.
        s3={"payload_signing_enabled": False},
    )
    return session.client("s3", config=config)


def _headers(condition: Condition) -> dict[str, Any]:
    match condition:
        case IfAbsent():
            return {"IfNoneMatch": "*"}
        case IfMatch(etag):
            return {"IfMatch": etag}
        case None:
            return {}


def _digest(part: BinaryIO, whole: hashlib._Hash) -> bytes:
    """Return the part's SHA-256. `whole` takes the same bytes. Leaves the part at its start."""
    digest = hashlib.sha256()
    while block := part.read(BLOCK):
        digest.update(block)
        whole.update(block)
    part.seek(0)
    return digest.digest()


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode("ascii")


def _hex(checksum: str | None) -> str | None:
    """Return S3's base64 as hex, or None for a checksum of parts' checksums, which ends in -<number of parts>."""
    if checksum is None or "-" in checksum:
        return None
    return base64.b64decode(checksum).hex()
