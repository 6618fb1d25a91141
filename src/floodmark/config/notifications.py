"""Checked `NotifySettings`, made from the file's `notify` list and from the environment.

A channel's address is often a secret by itself, such as a Slack webhook. The file then names an environment variable,
and no error repeats an address or the content of a variable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NoReturn
from urllib.parse import parse_qsl, urlsplit

from floodmark.config.notify_schema import NotifySection
from floodmark.config.settings import ChannelKind, ChannelSettings, NotifyKind, NotifySettings, Secret
from floodmark.config.shown import CONFIG_REFUSED
from floodmark.config.values import MAX_GRACE, TOPIC_ARN, parse_duration
from floodmark.errors import ConfigError

DEFAULT_KINDS: tuple[NotifyKind, ...] = ("failed", "partial", "tables_gone", "contract", "audit_mismatch")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}\Z", re.ASCII)
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9.+-]*)://", re.ASCII)
_VARIABLE = re.compile(r"\$\{?\w+\}?\Z", re.ASCII)
# People's webhooks that have an https URL. apprise knows their forms. All other https URLs get signed JSON.
_PEOPLE_HOSTS = (
    ("slack", re.compile(r"hooks\.slack(-gov)?\.com\Z")),
    ("teams", re.compile(r".+\.(logic\.azure\.[a-z]+|(power|apps)platform(\.[a-z0-9-]+)+)\Z")),
)
_MAIL = ("mailto", "mailtos")
_EXAMPLES = "Write the ARN of an SNS topic, an https:// URL or a URL of apprise, such as mailtos://…."
_HIDE = "Put it into an environment variable, and name that: to_env: NAME."


def notify_settings(
    sections: Sequence[NotifySection], runbook_url: str | None, environ: Mapping[str, str], name: str
) -> NotifySettings:
    """Return the channels of a file called `name`. Raises ConfigError."""
    channels = [_channel(section, environ, f"notify[{number}]", name) for number, section in enumerate(sections)]
    names = [one.name for one in channels]
    twice = next((one for one in names if names.count(one) > 1), None)
    if twice is not None:
        hint = "Give each its own name:, which logs and metrics show. With to_env, the default is only the kind."
        _refuse(f"notify ({name})", f"two channels are named {twice}", hint)
    return NotifySettings(tuple(channels), _runbook(runbook_url, name))


def readable_notify_settings(
    sections: Sequence[NotifySection], runbook_url: str | None, environ: Mapping[str, str]
) -> NotifySettings:
    """Return those channels that can be used, for the message that the configuration is refused."""
    runbook = None
    with suppress(ConfigError):
        runbook = _runbook(runbook_url, "")
    found = {(one.name, one.to): one for one in _usable(sections, environ)}
    return NotifySettings(tuple(found.values()), runbook)


def _usable(sections: Sequence[NotifySection], environ: Mapping[str, str]) -> Iterator[ChannelSettings]:
    for section in sections:
        with suppress(ConfigError):
            yield _channel(section, environ, "", "")


def _channel(section: NotifySection, environ: Mapping[str, str], path: str, name: str) -> ChannelSettings:
    """Return one channel. `path` gives its place in the file, for errors."""
    target, on = _target(section, environ, path, name)
    kind, service, own = _classified(target, on)
    if section.to is not None:
        _require_no_secret(target, kind, on)
    if section.name is not None and not _NAME.match(section.name):
        hint = "Write letters, digits, - _ and dots. It appears in logs and metrics, so it must be no secret."
        _refuse(f"{path}.name ({name})", "not a valid name", hint)
    if section.on == ():
        hint = "Name at least one kind of event, or remove the key."
        _refuse(f"{path}.on ({name})", "the list is empty: nothing would be told", hint)
    return ChannelSettings(
        name=section.name or (service if section.to is None else own),
        kind=kind,
        to=Secret(target),
        on=DEFAULT_KINDS if section.on is None else tuple(dict.fromkeys(section.on)),
        min_interval=_interval(section.min_interval, f"{path}.min_interval ({name})"),
        secret=_signing_secret(section, kind, environ, f"{path}.secret_env ({name})"),
    )


def _target(section: NotifySection, environ: Mapping[str, str], path: str, name: str) -> tuple[str, str]:
    """Return the address and its origin."""
    if (section.to is None) == (section.to_env is None):
        why = "the address is missing" if section.to is None else "to_env names the address, too"
        _refuse(f"{path}.to ({name})", why, f"{_EXAMPLES} If it holds a secret: to_env: NAME, instead of to.")
    if section.to_env is not None:
        on = f"{path}.to_env ({name})"
        return _from_environment(section.to_env, environ, on), on
    assert section.to is not None
    on, target = f"{path}.to ({name})", section.to.strip()
    if _VARIABLE.match(target):
        _refuse(on, "variables are not expanded here", "Write to_env: and the variable's name, without $ and braces.")
    return target, on


def _from_environment(variable: str, environ: Mapping[str, str], on: str) -> str:
    value = environ.get(variable, "").strip()
    if not value:
        hint = "Set it, for example from a secret of the job. Write only its name here, never its content."
        _refuse(on, "the environment variable of this name is not set", hint)
    return value


def _classified(target: str, on: str) -> tuple[ChannelKind, str, str]:
    """Return how a channel is reached, a name for its kind of service, and a name for it.

    The last one holds a part of the address. So it is only for an address that is no secret.
    """
    topic = TOPIC_ARN.match(target)
    if topic is not None:
        return "topic", "topic", topic["name"]
    match = _SCHEME.match(target)
    if match is None or re.search(r"[\x00-\x20\x7f]", target):
        _refuse(on, "not an address that Floodmark knows", _EXAMPLES)
    scheme = match["scheme"].lower()
    if scheme == "sns":
        _refuse(on, "an SNS topic has no URL here", "Write the topic's ARN. boto3 finds the credentials.")
    if scheme in ("http", "https"):
        return _web_address(target, on)
    service = "mail" if scheme in _MAIL else scheme
    return "people", service, service


def _web_address(target: str, on: str) -> tuple[ChannelKind, str, str]:
    try:
        parts = urlsplit(target)
        host, named = (parts.hostname or "").lower(), parts.port != 0
    except ValueError:
        host, named = "", False
    if not host or not named:
        _refuse(on, "the host is missing, or the port is not a number", _EXAMPLES)
    if parts.username is not None:
        _refuse(on, "a user in the URL is not sent", "Remove it. The receiver checks the signature of each request.")
    for service, hosts in _PEOPLE_HOSTS:
        if hosts.match(host):
            return "people", service, service
    return "webhook", "webhook", re.sub(r"[^A-Za-z0-9_.-]", "-", host)


def _require_no_secret(target: str, kind: ChannelKind, on: str) -> None:
    """Refuse an address in the file that holds a secret, as far as its form shows."""
    parts = urlsplit(target)
    if kind == "webhook" and (parts.query or parts.fragment):
        _refuse(on, "its parameters can hold a secret", _HIDE)
    if kind == "people" and parts.scheme.lower() not in _MAIL:
        _refuse(on, "an address of this kind is a secret", _HIDE)
    if kind == "people" and (
        parts.password is not None or any(key.startswith("pass") for key, _ in parse_qsl(parts.query))
    ):
        _refuse(on, "it holds a password", _HIDE)


def _signing_secret(section: NotifySection, kind: ChannelKind, environ: Mapping[str, str], on: str) -> Secret | None:
    if kind != "webhook":
        if section.secret_env is not None:
            _refuse(on, "only a request to an http(s) URL is signed", "Remove the key.")
        return None
    if section.secret_env is None:
        hint = "Name the environment variable of a long random text that the receiver knows, too."
        _refuse(on, "each request to an http(s) URL is signed, and the secret is missing", hint)
    return Secret(_from_environment(section.secret_env, environ, on))


def _interval(value: int | str | None, on: str) -> int:
    if value is None:
        return 0
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        _refuse(on, str(error), "Write a value from 0s to 3650d.")
    if seconds > MAX_GRACE:
        _refuse(on, "out of range", "Write a value from 0s to 3650d.")
    return seconds


def _runbook(url: str | None, name: str) -> str | None:
    if url is None:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None or parts.fragment:
        hint = "Write the address of a page, such as https://runbooks.example.org/floodmark/runbook.md."
        _refuse(f"runbook_url ({name})", "it must be an http:// or https:// URL without a user or a fragment", hint)
    return url


def _refuse(on: str, why: str, hint: str) -> NoReturn:
    raise ConfigError(CONFIG_REFUSED, on=on, why=why, hint=hint)
