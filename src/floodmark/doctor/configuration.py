"""The origin of the configuration: the place that sets each value. It never shows secrets."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from msgspec import Struct

from floodmark.backends import open_source
from floodmark.config import Flags, Settings
from floodmark.config.document import read_config
from floodmark.config.load import DEFAULT_FILE, DESTINATION, OLD_DESTINATION, SOURCE, STATE, VARIABLES
from floodmark.config.metrics import PUSHGATEWAY
from floodmark.doctor.finding import Finding, ok, warning

_PREFIX = "FLOODMARK_"
_OTHER_VARIABLES = ("FLOODMARK_LOG_FORMAT", "FLOODMARK_LOG_LEVEL", "FLOODMARK_DEBUG")
# Only the names of these variables are shown. A driver or boto3 reads them from the environment.
_LISTENED_TO = ("PG", "AWS_", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "FLOODMARK_MASK_KEY")
# boto3 takes the key if both are set. EKS sets the second one if the service account has a role.
_KEY, _ROLE = "AWS_ACCESS_KEY_ID", "AWS_ROLE_ARN"
_FLAGS = {
    "layout": ("destination.layout", "--layout"),
    "format": ("destination.format", "--format"),
    "tables": ("this run's tables", "--table"),
    "exclude": ("this run's tables", "--exclude"),
    "connections": ("limits.connections", "--connections"),
    "accept_loss": ("guards", "--accept-loss"),
    "allow_unconditional_writes": ("destination.allow_unconditional_writes", "--allow-unconditional-writes"),
}


def check_configuration(settings: Settings, flags: Flags, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the origin of each value, and the values that have no effect."""
    keys = _keys_of_file(flags)
    name = str(flags.config or DEFAULT_FILE)
    lines = [*_place_lines(settings, flags, environ, keys, name), *_other_lines(flags, keys, name)]
    also_set = sorted(variable for variable in environ if environ[variable] and variable.startswith(_LISTENED_TO))
    if also_set:
        lines.append(f"the environment also sets {', '.join(also_set)}")
    yield ok("configuration", "\n".join(lines))
    yield from _without_effect(environ, _named_variables(flags))


def _place_lines(
    settings: Settings, flags: Flags, environ: Mapping[str, str], keys: list[str], name: str
) -> Iterator[str]:
    gateway = "metrics.pushgateway"
    destination = settings.destination

    def origin(flag: object, flag_name: str, variables: tuple[str, ...], key: str, otherwise: str) -> str:
        if flag is not None:
            return flag_name
        set_ones = [variable for variable in variables if environ.get(variable)]
        return set_ones[0] if set_ones else f"{key}, {name}" if key in keys else otherwise

    source = origin(flags.source, "--source", (SOURCE,), "source.url", "the PG… variables")
    yield f"source: {open_source(settings).label} (from {source})"
    where = origin(flags.destination, "--destination", (DESTINATION, OLD_DESTINATION), "destination.url", "")
    yield f"destination: {destination.url} (from {where}), layout {destination.layout}"
    where = origin(flags.state, "--state", (STATE,), "state.url", "the default, next to the data")
    yield (
        "state: none, so every run extracts everything"
        if settings.state_url is None
        else (f"state: {settings.state_url} (from {where})")
    )
    if settings.metrics.pushgateway is not None:
        yield f"{gateway}: set (from {origin(flags.push_gateway, '--push-gateway', (PUSHGATEWAY,), gateway, '')})"


def _other_lines(flags: Flags, keys: list[str], name: str) -> Iterator[str]:
    places = ("source.url", "destination.url", "state.url", "metrics.pushgateway")
    rest = [key for key in keys if key not in places]
    if rest:
        yield f"from {name}: {', '.join(rest)}"
    given = [text for field, (_, text) in _FLAGS.items() if getattr(flags, field)]
    if given:
        yield f"from the command line: {', '.join(given)}"


def _keys_of_file(flags: Flags) -> list[str]:
    """Return the dotted keys that the file sets. The file was read and accepted before."""
    path = flags.config or DEFAULT_FILE
    return list(_set_keys(read_config(path), "")) if path.exists() else []


def _set_keys(section: Struct, prefix: str) -> Iterator[str]:
    for field in section.__struct_fields__:
        value = getattr(section, field)
        if isinstance(value, Struct):
            yield from _set_keys(value, f"{prefix}{field}.")
        elif value not in (None, ()):
            yield f"{prefix}{field}"


def _named_variables(flags: Flags) -> set[str]:
    """Return the variables that the file names."""
    path = flags.config or DEFAULT_FILE
    if not path.exists():
        return set()
    file = read_config(path)
    named = [name for one in file.notify for name in (one.to_env, one.secret_env)]
    return {name for name in (*named, file.openlineage.api_key_env) if name is not None}


def _without_effect(environ: Mapping[str, str], named: set[str]) -> Iterator[Finding]:
    if environ.get(DESTINATION) and environ.get(OLD_DESTINATION, environ[DESTINATION]) != environ[DESTINATION]:
        found = f"{DESTINATION} overrides {OLD_DESTINATION}, which names another place"
        yield warning(
            "configuration", found, f"Unset {OLD_DESTINATION}, or unset {DESTINATION} if that is the wrong one."
        )
    if environ.get(_KEY) and environ.get(_ROLE):
        found = f"{_KEY} overrides the role of the service account ({_ROLE})"
        yield warning("configuration", found, f"Remove {_KEY} and AWS_SECRET_ACCESS_KEY to use the role.")
    known = {*VARIABLES, *_OTHER_VARIABLES, *named}
    for variable in sorted(environ):
        if variable.startswith(_PREFIX) and variable not in known:
            close = difflib.get_close_matches(variable, sorted(known), 1)
            fix = f"Did you mean {close[0]}?" if close else "Unset it, or see docs/configuration.md for the right name."
            yield warning("configuration", f"{variable} is set but has no effect", fix)
