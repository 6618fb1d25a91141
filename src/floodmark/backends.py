"""The source, the destination and the state of a command, made from its settings."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET, Struct
from msgspec.structs import replace

from floodmark.config import DestinationSettings, Settings
from floodmark.events import Observer
from floodmark.layout import LAYOUTS, Layout
from floodmark.model import Encoding
from floodmark.objects.compression import compressor
from floodmark.retrying import Patience
from floodmark.source.base import Source
from floodmark.state.ledger import Ledger
from floodmark.state.manifest import Manifest
from floodmark.storage import StorageOptions, open_storage, open_storages
from floodmark.storage.base import Storage
from floodmark.storage.retry import RetryingStorage


class Backends(Struct, frozen=True):
    """The destination of data and the location of state. `ledger` is None for a stateless run."""

    destination: Storage
    ledger: Ledger | None
    layout: Layout
    encoding: Encoding


def open_backends(settings: Settings, observer: Observer) -> Backends:
    """Open destination and ledger.

    Raises ConfigError, also if a chosen option is not installed, and StorageError.
    """
    chosen = settings.destination
    compressor(chosen.compression)
    data = data_backends(chosen, open_data_storage(chosen), observer)
    return replace(data, ledger=open_ledger(settings, observer))


def open_data_storage(chosen: DestinationSettings) -> Storage:
    """Return the store of data objects, without retries. Raises ConfigError, StorageError."""
    return open_storage(chosen.url, _storage_options(chosen, conditional=LAYOUTS[chosen.layout].objects_stay))


def data_backends(chosen: DestinationSettings, storage: Storage, observer: Observer) -> Backends:
    """Return the destination of data, as `open_data_storage` opened it, without a state."""
    encoding = Encoding(chosen.format, chosen.compression, UNSET if chosen.numbers == "as-is" else chosen.numbers)
    return Backends(RetryingStorage(storage, observer), None, LAYOUTS[chosen.layout], encoding)


def open_ledger(settings: Settings, observer: Observer, patience: Patience = Patience()) -> Ledger | None:  # noqa: B008
    """Return the state store, or None for a stateless command."""
    if settings.state_url is None:
        return None
    storage = RetryingStorage(open_storage(settings.state_url, _state_options(settings)), observer, patience)
    return Ledger(storage, unconditional=settings.destination.allow_unconditional_writes)


def open_ledgers(
    several: Sequence[Settings],
    observer: Observer,
    patience: Patience = Patience(),  # noqa: B008 - frozen
) -> list[Ledger]:
    """Return the state stores of `several_states`, in the same order. They share one client of S3."""
    urls = [one.state_url for one in several if one.state_url is not None]
    stores = open_storages(urls, _state_options(several[0]))
    return [Ledger(RetryingStorage(store, observer, patience)) for store in stores]


def _state_options(settings: Settings) -> StorageOptions:
    plain = settings.destination.layout == "plain"
    return StorageOptions(
        sse=settings.destination.sse if plain else None,
        kms_key_id=settings.destination.kms_key_id if plain else None,
    )


def open_destination(settings: Settings, manifest: Manifest, observer: Observer) -> Storage:
    """Return the store of a manifest's objects: the configured destination, or else the manifest's own."""
    chosen = (
        settings.destination if settings.destination.url else replace(settings.destination, url=manifest.destination)
    )
    conditional = LAYOUTS[chosen.layout].objects_stay
    return RetryingStorage(open_storage(chosen.url, _storage_options(chosen, conditional=conditional)), observer)


def open_source(settings: Settings) -> Source:
    """Return the database to read. Raises ConfigError for an unknown dialect and for a missing driver."""
    url = settings.source.url
    scheme = "postgresql" if url is None else url.reveal().split(":", 1)[0].split("+", 1)[0]
    if scheme in ("postgresql", "postgres"):
        from floodmark.source.postgres.snapshot import PostgresSource  # noqa: PLC0415 - by need, as each source is

        mask_key, row_format = settings.selection.mask_key, settings.destination.format
        return PostgresSource(url, settings.limits, mask_key, row_format, settings.source.encoder)
    assert url is not None
    from floodmark.source.sql.facts import SqlOptions  # noqa: PLC0415 - by need: SQLAlchemy takes 0.2 s to load
    from floodmark.source.sql.opening import open_sql_source  # noqa: PLC0415 - by need, as above

    return open_sql_source(
        SqlOptions(url, settings.limits, settings.selection.mask_key, settings.destination.format, settings.chunk_bytes)
    )


def _storage_options(chosen: DestinationSettings, conditional: bool) -> StorageOptions:
    return StorageOptions(
        acl=chosen.acl,
        sse=chosen.sse,
        kms_key_id=chosen.kms_key_id,
        conditional=conditional,
        allow_unconditional=chosen.allow_unconditional_writes,
    )
