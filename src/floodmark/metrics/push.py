"""Pushing metrics to a Pushgateway. They are added to what is there: what a run does not know, it leaves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, unquote, urlsplit

from prometheus_client import CollectorRegistry, pushadd_to_gateway
from prometheus_client.exposition import basic_auth_handler, default_handler

from floodmark.config import Secret

JOB = "floodmark"
_TIMEOUT = 10.0  # seconds


class PushFailed(Exception):
    """Why a push failed, and where to; holds neither a user nor a password."""


def push(gateway: Secret, registry: CollectorRegistry, database: str) -> None:
    """Push a registry's metrics as the group of one database. Raises PushFailed."""
    parts = urlsplit(gateway.reveal())
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    group = {"database": database} if database else {}
    try:
        pushadd_to_gateway(bare, JOB, registry, group, timeout=_TIMEOUT, handler=_handler(parts))
    except HTTPError as error:
        error.close()
        raise PushFailed(f"{bare}: it answered {error.code}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise PushFailed(f"{bare}: {_why(error)}") from None


def _handler(parts: SplitResult) -> Callable[..., Callable[[], None]]:
    if parts.username is None:
        return default_handler
    return partial(basic_auth_handler, username=unquote(parts.username), password=unquote(parts.password or ""))


def _why(error: Exception) -> str:
    reason = error.reason if isinstance(error, URLError) else error
    text = reason.strerror if isinstance(reason, OSError) else None
    return text or type(reason).__name__
