"""The one protocol of all channels, and its obligations.

tests/contract/test_channels.py tests these obligations for every implementation:

- `send` sends a message once, and does not retry: the caller has a policy and a deadline.
- It returns only after the receiver accepted the message. Otherwise it raises MessageError, or MessageUnanswered if
  the same message can be sent again. The receiver can then get it twice.
- It waits at most `timeout` seconds for each answer of the receiver.
- An error names the channel by its name, and says why. It holds no address, no secret, and no text that the receiver
  or a library wrote.
"""

from __future__ import annotations

from typing import Protocol

from floodmark.notify.message import Message


class Channel(Protocol):
    """A way to one receiver. `send` can be called from any thread, one call at a time."""

    @property
    def name(self) -> str:
        """Return the channel's name, which is no secret."""
        ...

    def send(self, message: Message, timeout: float) -> None:
        """Send a message. Raises MessageError, MessageUnanswered."""
        ...


WHAT = "can't send a notification"
