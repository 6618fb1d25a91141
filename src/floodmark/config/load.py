"""Flags, environment and file → `Settings`. Flags win over the environment, the environment over the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from floodmark.config import values
from floodmark.config.completion import completion_settings, require_completable
from floodmark.config.contract_terms import contract_place, contract_terms
from floodmark.config.deliveries import delivery_settings, require_deliverable
from floodmark.config.document import read_config
from floodmark.config.guards import guard_settings
from floodmark.config.metrics import PUSHGATEWAY, metrics_settings
from floodmark.config.notifications import notify_settings, readable_notify_settings
from floodmark.config.openlineage import openlineage_settings
from floodmark.config.receivers import layout_of, place_settings
from floodmark.config.schema import ConfigFile, ContractSection, DestinationSection
from floodmark.config.settings import (
    DEFAULT_AUDIT_SHARE,
    DEFAULT_CHUNK_BYTES,
    DEFAULT_GRACE,
    DestinationSettings,
    Flags,
    Limits,
    Metrics,
    NotifySettings,
    OpenLineageSettings,
    Secret,
    Selection,
    Settings,
    SourceSettings,
)
from floodmark.config.shown import CONFIG_REFUSED
from floodmark.config.tables import MASK_KEY, require_possible_detection, table_selection
from floodmark.config.urls import check_place, password_variable, read_source
from floodmark.engine.address import ADDRESS_HINT, read_address
from floodmark.errors import ConfigError
from floodmark.layout import LayoutName
from floodmark.native import VARIABLE as ENCODER
from floodmark.native import encoder_in_use
from floodmark.places import places_overlap

DEFAULT_FILE = Path("floodmark.yaml")
SOURCE, DESTINATION, STATE = "FLOODMARK_SOURCE", "FLOODMARK_DESTINATION", "FLOODMARK_STATE"
STATES, ENGINE = "FLOODMARK_STATES", "FLOODMARK_ENGINE"
OLD_DESTINATION = "S3_DESTINATION"
# If any of these is set, libpq knows the database and needs no URL.
LIBPQ = ("PGHOST", "PGHOSTADDR", "PGDATABASE", "PGSERVICE")
VARIABLES = (SOURCE, DESTINATION, OLD_DESTINATION, STATE, STATES, MASK_KEY, PUSHGATEWAY, ENCODER, ENGINE, *LIBPQ)


class GivenValue(Struct, frozen=True):
    """A setting's value and its origin: the flag, the variable or the key with its file."""

    value: Secret
    origin: str

    @property
    def text(self) -> str:
        return self.value.reveal()


def load(arguments: Flags, environ: Mapping[str, str], *, state_only: bool = False) -> Settings:
    """Return the checked settings of one command. An empty environment variable counts as not set.

    With `state_only` (a command that reads nothing but the ledger) no source is needed, and no destination if the state
    is given. Raises ConfigError, which holds neither a URL nor any other value.
    """
    file, name = read_file(arguments.config)
    source = _source(arguments, environ, file, name, required=not state_only)
    state = _given_value(arguments.state, "--state", environ, (STATE,), file.state.url, f"state.url ({name})")
    destination = _destination(arguments, environ, file, name, required=not (state_only and state))
    tables = Selection() if state_only else table_selection(arguments, environ, file, name)
    contract_file = contract_place(file.contract, name)
    if file.contract is not None and not state_only:
        tables = replace(tables, contract=contract_terms(file.contract, contract_file))
    settings = Settings(
        source=_source_settings(source, file, environ),
        destination=destination,
        state_url=_state_url(state, destination),
        selection=tables,
        chunk_bytes=_chunk_bytes(file, name),
        guards=guard_settings(arguments, file.guards, name),
        limits=_limits(arguments, file, name),
        audit_share=_audit_share(file, name),
        audit=not arguments.no_audit,
        metrics=Metrics() if state_only else metrics_settings(arguments, environ, file.metrics, name),
        prune_grace=_grace_seconds(arguments, file, name),
        deliver=delivery_settings(file.deliver, name),
        notify=NotifySettings() if state_only else notify_settings(file.notify, file.runbook_url, environ, name),
        completion=completion_settings(file.completion, name),
        contract_file=contract_file,
        openlineage=OpenLineageSettings() if state_only else openlineage_settings(file.openlineage, environ, name),
        full=arguments.full,
        adopt_source=arguments.adopt_source,
        engine=_engine(arguments, environ, file, name),
    )
    _require_no_contradiction(settings, state, name)
    for number, url in enumerate(file.states):
        check_place(url, f"states[{number}] ({name})")
    return settings


def load_settings(file: str | PathLike[str] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Return the checked settings of a file and the environment, as `floodmark run` without flags reads them.

    Args:
        file: A YAML file (docs/configuration.md). None means `floodmark.yaml` in the working directory, if it exists.
        environ: The environment variables. None means those of the process.

    Raises:
        ConfigError: A setting is missing, unknown, invalid, or contradicts another one. The error holds no value.
    """
    path = None if file is None else Path(file)
    return load(Flags(config=path), os.environ if environ is None else environ)


def load_source(arguments: Flags, environ: Mapping[str, str]) -> SourceSettings:
    """Return the source, for a command that uses nothing else. Raises ConfigError."""
    file, name = read_file(arguments.config)
    source = _source(arguments, environ, file, name, required=True)
    return _source_settings(source, file, environ)


def load_tables(arguments: Flags, environ: Mapping[str, str], *, contract: bool) -> Settings:
    """Return the source and the choice of tables, for a command that reads no row and needs no destination.

    With `contract` the contract is in force, also if the file has no such section. Raises ConfigError.
    """
    file, name = read_file(arguments.config)
    source = _source(arguments, environ, file, name, required=True)
    key = environ.get(MASK_KEY) or "not set, and no row is read"
    selection = table_selection(arguments, {**environ, MASK_KEY: key}, file, name)
    place = contract_place(file.contract, name)
    if contract:
        selection = replace(selection, contract=contract_terms(file.contract or ContractSection(), place))
    settings = Settings(
        source=_source_settings(source, file, environ),
        destination=DestinationSettings(url=""),
        state_url=None,
        selection=selection,
        limits=_limits(arguments, file, name),
        contract_file=place,
    )
    require_possible_detection(settings.selection, settings.source.url, name)
    return settings


def _source_settings(source: GivenValue | None, file: ConfigFile, environ: Mapping[str, str]) -> SourceSettings:
    url = None if source is None else source.value
    return SourceSettings(url, file.source.wait_seconds or 0, encoder_in_use(environ))


def load_notify(path: Path | None, environ: Mapping[str, str], *, lenient: bool = False) -> NotifySettings:
    """Return the channels for notifications, and read nothing else of the file.

    Raises ConfigError. With `lenient`, a channel that can't be used is left out.
    """
    file, name = read_file(path)
    if lenient:
        return readable_notify_settings(file.notify, file.runbook_url, environ)
    return notify_settings(file.notify, file.runbook_url, environ, name)


def read_file(path: Path | None) -> tuple[ConfigFile, str]:
    """Return the file and its name. A file must exist only if the user named it."""
    if path is None and not DEFAULT_FILE.exists():
        return ConfigFile(), str(DEFAULT_FILE)
    chosen = path or DEFAULT_FILE
    return read_config(chosen), str(chosen)


def _given_value(
    flag: str | None,
    flag_name: str,
    environ: Mapping[str, str],
    variables: tuple[str, ...],
    key: str | None,
    key_name: str,
) -> GivenValue | None:
    if flag is not None:
        return GivenValue(Secret(flag), flag_name)
    for variable in variables:
        if environ.get(variable):
            return GivenValue(Secret(environ[variable]), variable)
    return None if key is None else GivenValue(Secret(key), key_name)


def _source(
    arguments: Flags, environ: Mapping[str, str], file: ConfigFile, name: str, *, required: bool
) -> GivenValue | None:
    flag = None if arguments.source is None else arguments.source.reveal()
    given = _given_value(flag, "--source", environ, (SOURCE,), file.source.url, f"source.url ({name})")
    if given is None:
        if required and not any(environ.get(variable) for variable in LIBPQ):
            hint = f"Give --source URL, set {SOURCE}, or set PGHOST and PGDATABASE as for psql."
            raise ConfigError(CONFIG_REFUSED, on="source.url", why="no source is given", hint=hint)
        return None
    url = read_source(given.text, given.origin)
    if url.has_password and given.origin == "--source":
        variable = password_variable(given.text.strip())
        other = "" if variable is None else f", or the password into {variable}"
        hint = f"Other users of this machine can see it. Put the URL into {SOURCE}{other}."
        raise ConfigError(CONFIG_REFUSED, on="--source", why="a password on the command line is refused", hint=hint)
    return GivenValue(Secret(given.text.strip()), given.origin)


def _destination(
    arguments: Flags, environ: Mapping[str, str], file: ConfigFile, name: str, *, required: bool
) -> DestinationSettings:
    section, flag = file.destination, arguments.destination
    variables = (DESTINATION, OLD_DESTINATION)
    given = _given_value(flag, "--destination", environ, variables, section.url, f"destination.url ({name})")
    if given is None and required:
        hint = f"Give --destination URL, or set {DESTINATION} or {OLD_DESTINATION}: s3://bucket/prefix, or a folder."
        raise ConfigError(CONFIG_REFUSED, on="destination.url", why="no destination is given", hint=hint)
    url = "" if given is None else check_place(given.text, given.origin)
    layout: LayoutName = arguments.layout or section.layout or layout_of(url)
    chosen = place_settings(_set(section), url, layout, "destination", name)
    flags = {"format": arguments.format, "numbers": arguments.numbers}
    chosen |= {field: value for field, value in flags.items() if value is not None}
    if chosen.get("format") == "csv" and chosen.get("numbers") == "quote-large":
        why, hint = "it applies to JSON Lines only: CSV has text, no numbers", "Remove it, or set format: jsonl."
        raise ConfigError(CONFIG_REFUSED, on="numbers: quote-large", why=why, hint=hint)
    allow = arguments.allow_unconditional_writes or bool(section.allow_unconditional_writes)
    return DestinationSettings(**{**chosen, "url": url, "layout": layout, "allow_unconditional_writes": allow})


def _set(section: DestinationSection) -> dict[str, Any]:
    """Return the destination keys that the file sets."""
    pairs = ((field, getattr(section, field)) for field in section.__struct_fields__)
    return {field: value for field, value in pairs if value is not None}


def _state_url(given: GivenValue | None, destination: DestinationSettings) -> str | None:
    """Return the state's place: by default next to the data, or None (a stateless run) if a receiver takes all away."""
    if given is not None:
        return check_place(given.text, given.origin)
    return f"{destination.url.rstrip('/')}/_floodmark/" if destination.layout == "plain" else None


def _require_no_contradiction(settings: Settings, state: GivenValue | None, name: str) -> None:
    """Refuse contradictions that show only when all settings are known."""
    require_possible_detection(settings.selection, settings.source.url, name)
    require_deliverable(settings, name)
    require_completable(settings, name)
    if settings.destination.layout != "moj-landing":
        return
    if settings.state_url is None:
        if settings.selection.new == "fail":
            why = "fail needs a state: without one every table is new"
            hint = f"Set {STATE} to a bucket of your own, or remove tables.new."
            raise ConfigError(CONFIG_REFUSED, on=f"tables.new ({name})", why=why, hint=hint)
        return
    landing, destination = layout_of(settings.state_url) == "moj-landing", settings.destination.url
    if landing or (destination and places_overlap(settings.state_url, destination)):
        why = "the state is in the landing zone, and its receiver moves every object away"
        hint = f"Set {STATE} to a bucket of your own, or remove it for a run without state."
        raise ConfigError(CONFIG_REFUSED, on=state.origin if state else "state.url", why=why, hint=hint)


def _chunk_bytes(file: ConfigFile, name: str) -> int:
    if file.chunk_size is None:
        return DEFAULT_CHUNK_BYTES
    low, high = values.MIN_CHUNK, values.MAX_CHUNK
    return _in_range(values.parse_size, file.chunk_size, f"chunk_size ({name})", low, high, "8KiB to 4GiB")


def _engine(arguments: Flags, environ: Mapping[str, str], file: ConfigFile, name: str) -> str | None:
    """Return the address of the Dask scheduler, or None for threads of this process."""
    given = _given_value(arguments.engine, "--engine", environ, (ENGINE,), file.engine, f"engine ({name})")
    if given is None:
        return None
    try:
        return read_address(given.text).text
    except ValueError as error:
        raise ConfigError(CONFIG_REFUSED, on=given.origin, why=str(error), hint=ADDRESS_HINT) from None


_TIME_LIMIT = (values.MAX_SECONDS, "1s to 24d")


def _limits(arguments: Flags, file: ConfigFile, name: str) -> Limits:
    section, given = file.limits, {}
    for field in ("max_snapshot_age", "statement_timeout", "lock_timeout"):
        value = getattr(section, field)
        if value is not None:
            on = f"limits.{field} ({name})"
            high, span = (values.MAX_SNAPSHOT_AGE, "1s to 24h") if field == "max_snapshot_age" else _TIME_LIMIT
            given[field] = _in_range(values.parse_duration, value, on, 1, high, span)
    if section.wal_summary_wait is not None:
        wait, on = section.wal_summary_wait, f"limits.wal_summary_wait ({name})"
        given["wal_summary_wait"] = _in_range(values.parse_duration, wait, on, 0, values.MAX_SECONDS, "0s to 24d")
    connections = _or_default(arguments.connections, _or_default(section.connections, Limits().connections))
    if not 1 <= connections <= 128:
        raise ConfigError(CONFIG_REFUSED, on="--connections", why="out of range", hint="Write a number from 1 to 128.")
    return Limits(connections=connections, **given)


def _audit_share(file: ConfigFile, name: str) -> float:
    share, chunks = file.audit.share, file.audit.chunks_per_run
    if chunks is not None and (chunks > 0 or share is not None):
        why = "the audit now reads a share of the proven bytes, not a number of chunks"
        hint = "Write audit: {share: 0.5%} instead, or remove the key."
        raise ConfigError(CONFIG_REFUSED, on=f"audit.chunks_per_run ({name})", why=why, hint=hint)
    if share is None:
        return DEFAULT_AUDIT_SHARE if chunks is None else 0.0
    try:
        return values.parse_percentage(share)
    except ValueError as error:
        on, hint = f"audit.share ({name})", "Write 0% to 100%."
        raise ConfigError(CONFIG_REFUSED, on=on, why=str(error), hint=hint) from None


def _grace_seconds(arguments: Flags, file: ConfigFile, name: str) -> int:
    given = (arguments.grace, "--grace") if arguments.grace is not None else (file.prune.grace, f"prune.grace ({name})")
    if given[0] is None:
        return DEFAULT_GRACE
    return _in_range(values.parse_duration, given[0], given[1], 0, values.MAX_GRACE, "0s to 3650d")


def _in_range(parse: Callable[[int | str], int], value: int | str, on: str, low: int, high: int, span: str) -> int:
    try:
        number = parse(value)
    except ValueError as error:
        raise ConfigError(CONFIG_REFUSED, on=on, why=str(error), hint=f"Write a value from {span}.") from None
    if not low <= number <= high:
        raise ConfigError(CONFIG_REFUSED, on=on, why="out of range", hint=f"Write a value from {span}.")
    return number


def _or_default(value: int | None, default: int) -> int:
    return default if value is None else value
