"""Notifications to people: Slack, Teams, e-mail and every other service that apprise knows.

apprise says only whether it could send a message. Its log holds the rest, in texts that can hold an address. So only
numbers are taken from that log.
"""

from __future__ import annotations

import logging
import re
import threading

import apprise  # optional extra

from floodmark.config import Secret
from floodmark.errors import ConfigError, MessageError, MessageUnanswered
from floodmark.notify.channels.base import WHAT
from floodmark.notify.message import Message
from floodmark.version import __version__

_LOGGER = logging.getLogger(apprise.logger.name)
_STATUS = re.compile(r"\berror=(\d{3})\b")
_SHORTEST = 100  # characters; a service that takes fewer gets the beginning
_MARGIN = 20  # characters that a service can add around the title
_PASSING = (408, 425, 429)
_TYPES = {
    "audit_mismatch": apprise.NotifyType.FAILURE,
    "failed": apprise.NotifyType.FAILURE,
    "succeeded": apprise.NotifyType.SUCCESS,
    "test": apprise.NotifyType.INFO,
}


class PeopleChannel:
    """A service for people. Raises ConfigError for an address that apprise does not know."""

    def __init__(self, name: str, address: Secret) -> None:
        self.name = name
        asset = apprise.AppriseAsset(
            app_id="Floodmark",
            app_desc=f"Floodmark {__version__}",
            app_url="",
            image_url_mask="",
            image_url_logo="",
            async_mode=False,
            secure_logging=True,
            storage_mode=apprise.PersistentStoreMode.MEMORY,
        )
        with _Statuses():
            found = apprise.Apprise.instantiate(address.reveal(), asset=asset)
        if found is None:
            hint = "Compare it with the forms that apprise's documentation lists for this service."
            raise ConfigError(WHAT, on=name, why="apprise does not know an address of this form", hint=hint)
        self._service = found

    def send(self, message: Message, timeout: float) -> None:
        service = self._service
        service.socket_connect_timeout = service.socket_read_timeout = timeout
        limit = max(_SHORTEST, service.body_maxlen - len(message.title) - _MARGIN)
        try:
            with _Statuses() as statuses:
                sent = service.notify(
                    body=message.text(limit),
                    title=message.title,
                    notify_type=_TYPES.get(message.kinds[0], apprise.NotifyType.WARNING),
                    body_format=apprise.NotifyFormat.TEXT,
                )
        except Exception as error:  # a hundred services have their own ways to fail, and their texts can hold anything
            raise MessageError(WHAT, on=self.name, why=type(error).__name__) from None
        if not sent:
            raise self._refused(statuses.last)

    def _refused(self, status: int | None) -> MessageError:
        if status is None:
            why = "the service can't be reached, or it refused the message"
            hint = "Check the address in the environment variable, the network, and HTTPS_PROXY / NO_PROXY."
            return MessageUnanswered(WHAT, on=self.name, why=why, hint=hint)
        if status >= 500 or status in _PASSING:
            return MessageUnanswered(WHAT, on=self.name, why=f"the service answered {status}")
        hint = "Check the address in the environment variable: the service can have revoked it."
        return MessageError(WHAT, on=self.name, why=f"the service answered {status}", hint=hint)


class _Statuses(logging.Handler):
    """Context manager that keeps apprise's log away from stderr, and takes the HTTP statuses of this thread from it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._thread = threading.get_ident()
        self.last: int | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread and (match := _STATUS.search(record.getMessage())) is not None:
            self.last = int(match[1])

    def __enter__(self) -> _Statuses:
        _LOGGER.propagate = False
        _LOGGER.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        _LOGGER.removeHandler(self)
