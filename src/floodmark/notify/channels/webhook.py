"""Notifications to any HTTP URL: a POST of JSON, signed with HMAC SHA-256.

The signature covers the time, so that a receiver can refuse an old request that someone sends again.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from http.client import HTTPException, HTTPMessage
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import msgspec

from floodmark.config import Secret
from floodmark.errors import MessageError, MessageUnanswered
from floodmark.notify.channels.base import WHAT
from floodmark.notify.message import Message
from floodmark.version import __version__

_PASSING = (408, 425, 429)
_UNREACHABLE = "Check the URL, the network, and HTTPS_PROXY / NO_PROXY."
_REFUSED = (
    "Check the URL, and that the receiver has the same secret. docs/notifications.md shows how to check a signature."
)


class WebhookChannel:
    """An HTTP URL. It must answer 2xx. Redirects are not followed, because nobody signed the request for that place."""

    def __init__(self, name: str, url: Secret, secret: Secret, clock: Callable[[], float] = time.time) -> None:
        self.name, self._url, self._secret, self._clock = name, url, secret, clock

    def send(self, message: Message, timeout: float) -> None:
        body = msgspec.json.encode(message.document)
        request = Request(self._url.reveal(), body, self._headers(message, body), method="POST")
        try:
            with build_opener(_NoRedirect()).open(request, timeout=timeout):
                return
        except HTTPError as error:
            error.close()
            raise self._refused(error.code) from None
        except (OSError, HTTPException, ValueError) as error:
            raise MessageUnanswered(WHAT, on=self.name, why=_reason(error), hint=_UNREACHABLE) from None

    def _headers(self, message: Message, body: bytes) -> dict[str, str]:
        timestamp = str(int(self._clock()))
        return {
            "Content-Type": "application/json",
            "User-Agent": f"floodmark/{__version__}",
            "X-Floodmark-Event": message.event,
            "X-Floodmark-Id": message.identity,
            "X-Floodmark-Timestamp": timestamp,
            "X-Floodmark-Signature": signature(self._secret, timestamp, body),
        }

    def _refused(self, status: int) -> MessageError:
        passing = status >= 500 or status in _PASSING
        kind = MessageUnanswered if passing else MessageError
        return kind(WHAT, on=self.name, why=f"it answered {status}", hint=None if passing else _REFUSED)


def signature(secret: Secret, timestamp: str, body: bytes) -> str:
    """Return the value of X-Floodmark-Signature: the HMAC of the timestamp, a dot, and the body."""
    signed = hmac.new(secret.reveal().encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={signed.hexdigest()}"


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Follow no redirect: the answer is then an HTTPError with its status."""


def _reason(error: Exception) -> str:
    """Return why there was no answer. Only the system's own text is safe: others can hold the URL."""
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    text = reason.strerror if isinstance(reason, OSError) else None
    return text or type(reason).__name__
