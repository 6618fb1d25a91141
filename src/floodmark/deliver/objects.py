"""One object of a delivery: verified, then put. Both are tasks for an engine, which can run them on other machines."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from msgspec import Struct

from floodmark.config import DeliverySettings
from floodmark.engine.base import WorkerWatch
from floodmark.layout import LAYOUTS
from floodmark.meter import ChunkMeter
from floodmark.model import Encoding, ObjectEntry, TableName
from floodmark.objects.numbers import most_bytes
from floodmark.objects.spool import Spool
from floodmark.objects.verified import as_stored, converted
from floodmark.storage import StorageOptions, kept_storage
from floodmark.storage.base import Storage
from floodmark.storage.copying import Copier
from floodmark.storage.retry import RetryingStorage


class Sending(Struct, frozen=True):
    """An object to send, in an encoding, under a key. If `twice` is true, it is read once more before any put."""

    table: TableName
    one: ObjectEntry
    key: str
    stored: Encoding
    encoding: Encoding
    twice: bool

    @property
    def most_bytes(self) -> int:
        """Return the most bytes that it can have in its encoding."""
        if self.encoding == self.stored:
            return self.one.stored_bytes
        same_numbers = self.encoding.numbers == self.stored.numbers
        return self.one.raw_bytes if same_numbers else most_bytes(self.one.raw_bytes)


class Places(Struct, frozen=True):
    """The places of a delivery, which another machine opens with its own credentials: the objects' and the target."""

    data: str
    settings: DeliverySettings

    @property
    def writable_anywhere(self) -> bool:
        """Return true if every machine can put to the target, even late, after it was believed dead.

        A folder can be another one there, and nothing would tell: a delivery only puts. A machine that reads the right
        bucket also puts to the right one. A receiver that moves objects away would take a late object for a new one.
        """
        in_s3 = self.data.startswith("s3://") and self.settings.url.startswith("s3://")
        return in_s3 and LAYOUTS[self.settings.layout].objects_stay


def target_options(settings: DeliverySettings) -> StorageOptions:
    return StorageOptions(settings.acl, settings.sse, settings.kms_key_id, conditional=False)


def verify_object(data: Storage, sending: Sending, watch: WorkerWatch) -> None:
    """Read an object to its end. Raises VerificationFailed, ObjectMissing, StorageError, Stopped."""
    one = sending.one
    watch.stop.require_not_asked()
    with ChunkMeter(watch.observer, sending.table, one.chunk, one.stored_bytes // 2, one.stored_bytes) as meter:
        for block in as_stored(data, one):
            watch.stop.require_not_asked()
            meter.add(len(block))


def put_object(data: Storage, target: Storage, copier: Copier | None, sending: Sending, watch: WorkerWatch) -> None:
    """Verify an object and put it. Raises the errors of `verify_object`, and those of the put."""
    one, same = sending.one, sending.encoding == sending.stored
    watch.stop.require_not_asked()
    size = one.stored_bytes - (one.stored_bytes // 2 if sending.twice else 0)
    with ChunkMeter(watch.observer, sending.table, one.chunk, size, sending.most_bytes) as meter, Spool() as spool:
        if same and copier is not None and copier.copied(one.key, one.stored_bytes, one.sha256, sending.key):
            return
        for block in _blocks(data, sending):
            watch.stop.require_not_asked()
            spool.write(block)
            meter.add(len(block))
        # The whole object was read and verified. No byte left before that.
        target.put(sending.key, spool.body)


def verify_away(places: Places, sending: Sending, watch: WorkerWatch) -> None:
    """Verify an object on a machine that has nothing but the message and its own credentials."""
    verify_object(RetryingStorage(kept_storage(places.data), watch.observer), sending, watch)


def put_away(places: Places, sending: Sending, watch: WorkerWatch) -> None:
    """Put an object from a machine that has nothing but the message and its own credentials."""
    data, url = kept_storage(places.data), places.settings.url
    target = RetryingStorage(kept_storage(url, target_options(places.settings)), watch.observer)
    put_object(RetryingStorage(data, watch.observer), target, _kept_copier(places), sending, watch)


def make_copier(data: Storage, settings: DeliverySettings) -> Copier | None:
    """Return a copier between two places of S3. All places share one endpoint and one set of credentials."""
    if not (data.url.startswith("s3://") and settings.url.startswith("s3://")):
        return None
    from floodmark.storage.s3 import S3Storage  # noqa: PLC0415 - by need: boto3 takes 0.15 s to load

    bucket, _, prefix = settings.url.removeprefix("s3://").partition("/")
    return Copier(data, S3Storage(bucket, prefix.strip("/"), target_options(settings)))


@lru_cache(maxsize=4)
def _kept_copier(places: Places) -> Copier | None:
    """Return the copier that this process keeps. It knows if the store makes copies."""
    return make_copier(kept_storage(places.data), places.settings)


def _blocks(data: Storage, sending: Sending) -> Iterator[bytes]:
    if sending.encoding == sending.stored:
        return as_stored(data, sending.one)
    return converted(data, sending.one, sending.stored, sending.encoding)
