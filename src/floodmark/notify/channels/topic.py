"""Notifications to an SNS topic."""

from __future__ import annotations

from floodmark.errors import MessageError
from floodmark.notify.channels.base import WHAT
from floodmark.notify.message import Message


class TopicChannel:
    """An SNS topic. Subscribers by e-mail get the text, all others the document."""

    def __init__(self, name: str, arn: str) -> None:
        self.name, self._arn = name, arn

    def send(self, message: Message, timeout: float) -> None:
        from floodmark.topics import TopicMessage, send_to_aws  # noqa: PLC0415 - by need: boto3 takes 0.15 s to load

        sent = TopicMessage(
            event=message.event,
            identity=message.identity,
            subject=message.title,
            text=message.text(),
            document=message.document,
        )
        try:
            send_to_aws(self._arn, sent, timeout)
        except MessageError as error:
            raise type(error)(WHAT, on=self.name, why=error.why, hint=error.hint) from None
