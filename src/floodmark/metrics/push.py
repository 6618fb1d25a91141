"""Push of metrics to a Pushgateway. It adds to the existing group: metrics that a run does not know stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, unquote, urlsplit

from prometheus_client import CollectorRegistry, pushadd_to_gateway
from prometheus_client.exposition import basic_auth_handler, default_handler

from floodmark.config import Secret

JOB = "floodmark"
Handler = Callable[..., Callable[[], None]]
_TIMEOUT = 10.0  # seconds


class PushFailed(Exception):
    """A push's error: the cause and the target, without user or password."""


def push(gateway: Secret, registry: CollectorRegistry, database: str) -> None:
    """Push a registry's metrics as the group of one database. Raises PushFailed."""
    group = {"database": database} if database else {}
    with _gateway_request(gateway) as (bare, handler):
        pushadd_to_gateway(bare, JOB, registry, group, timeout=_TIMEOUT, handler=handler)


def check_ready(gateway: Secret) -> None:
    """Ask the gateway if it is ready, without a push. Raises PushFailed."""
    with _gateway_request(gateway) as (bare, handler):
        handler(f"{bare.rstrip('/')}/-/ready", "GET", _TIMEOUT, [], b"")()


@contextmanager
def _gateway_request(gateway: Secret) -> Iterator[tuple[str, Handler]]:
    """Yield the gateway's URL without a user, and the handler that sends requests as that user. Raises PushFailed."""
    parts = urlsplit(gateway.reveal())
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    try:
        yield bare, _request_handler(parts)
    except HTTPError as error:
        error.close()
        raise PushFailed(f"{bare}: the gateway answered {error.code}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise PushFailed(f"{bare}: {_error_text(error)}") from None


def _request_handler(parts: SplitResult) -> Handler:
    if parts.username is None:
        return default_handler
    return partial(basic_auth_handler, username=unquote(parts.username), password=unquote(parts.password or ""))


def _error_text(error: Exception) -> str:
    reason = error.reason if isinstance(error, URLError) else error
    text = reason.strerror if isinstance(reason, OSError) else None
    return text or type(reason).__name__
