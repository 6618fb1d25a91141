"""The way of events to their receiver: in order, in a thread of its own, and within a fixed time after the run's end.

Nothing here fails a run or delays it by more than `LIMIT` seconds. A receiver that does not answer costs one warning.
"""

from __future__ import annotations

import importlib.util
import logging
import queue
import threading
import time
from typing import TYPE_CHECKING

from floodmark.config import OpenLineageSettings
from floodmark.errors import ConfigError
from floodmark.openlineage.trace import RunTrace
from floodmark.wording import install_hint

if TYPE_CHECKING:
    from openlineage.client.transport.transport import Transport  # optional extra

LIMIT = 5.0  # seconds
_ANSWER = 2.0  # seconds to wait for each answer of a receiver
_TRIES, _PAUSE = 2, 0.3
_REASONS = {
    "ConnectionError": "the receiver can't be reached",
    "SSLError": "TLS failed, such as for a wrong certificate",
}


def require_client() -> None:
    """Require that OpenLineage's client is installed. Raises ConfigError."""
    try:
        found = importlib.util.find_spec("openlineage.client")
    except ModuleNotFoundError:
        found = None
    if found is None:
        why = "the package openlineage-python is not installed"
        raise ConfigError("can't send OpenLineage events", why=why, hint=install_hint("openlineage"))


class Emitter:
    """The receiver of a run's events. Raises ConfigError without the client's package."""

    def __init__(self, settings: OpenLineageSettings) -> None:
        require_client()
        self._settings = settings
        self._waiting: queue.SimpleQueue[RunTrace | None] = queue.SimpleQueue()
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._work, daemon=True, name="openlineage")
        self._thread.start()

    def emit(self, trace: RunTrace) -> None:
        """Send an event after those before it. Returns at once."""
        self._waiting.put(trace)

    def close(self, limit: float = LIMIT) -> str | None:
        """Wait until all events are sent, for `limit` seconds at most. Return why one was not, or None."""
        self._waiting.put(None)
        self._thread.join(limit)
        if self._thread.is_alive():
            return self._problem or "no answer in time"
        return self._problem

    def _work(self) -> None:
        transport: Transport | None = None
        while (trace := self._waiting.get()) is not None:
            for number in range(1, _TRIES + 1):
                try:
                    transport = transport or _transport(self._settings)
                    _send(transport, trace)
                    break
                except Exception as error:
                    # The first reason tells most: the others are often that the receiver is gone.
                    self._problem = self._problem or _reason(error)
                    if number < _TRIES:
                        time.sleep(_PAUSE)


def _send(transport: Transport, trace: RunTrace) -> None:
    from floodmark.openlineage.events import event_of  # noqa: PLC0415 - optional extra

    transport.emit(event_of(trace))


def _transport(settings: OpenLineageSettings) -> Transport:
    """Return the client's transport. It logs what it does, with addresses, so its log is off."""
    from openlineage.client.transport.file import FileConfig, FileTransport  # noqa: PLC0415 - optional extra
    from openlineage.client.transport.http import (  # noqa: PLC0415 - optional extra
        ApiKeyTokenProvider,
        HttpConfig,
        HttpTransport,
        TokenProvider,
    )
    from requests import Session  # noqa: PLC0415 - optional extra

    logging.getLogger("openlineage").disabled = True
    if settings.transport == "file":
        return FileTransport(FileConfig(settings.path, append=True))
    session = Session()
    session.max_redirects = 0  # the API key is for this receiver
    key = settings.api_key
    return HttpTransport(
        HttpConfig(
            url=settings.url,
            endpoint=settings.endpoint,
            timeout=_ANSWER,
            auth=TokenProvider({}) if key is None else ApiKeyTokenProvider({"apiKey": key.reveal()}),
            session=session,
            retry={"total": 0},
        )
    )


def _reason(error: Exception) -> str:
    """Return why an event was not sent. A library's own text can hold an address or a key, so it is not shown."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"the receiver answered {status}"
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    name = type(error).__name__
    return _REASONS.get(name, "no answer in time" if "Timeout" in name else name)
