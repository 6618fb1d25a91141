"""A channel that keeps its messages in memory, for tests."""

from __future__ import annotations

from collections.abc import Sequence

from floodmark.errors import MessageError
from floodmark.notify.message import Message


class MemoryChannel:
    """A receiver that raises `errors`, one for each call, and accepts every message after that."""

    def __init__(self, name: str, errors: Sequence[MessageError] = ()) -> None:
        self.name = name
        self.received: list[Message] = []
        self._errors = list(errors)

    def send(self, message: Message, timeout: float) -> None:
        if self._errors:
            raise self._errors.pop(0)
        self.received.append(message)
