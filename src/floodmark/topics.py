"""Messages to SNS topics and EventBridge buses, through boto3. boto3 finds the credentials in its usual way.

boto3's own retries are off: the caller has a policy and a deadline. A message can arrive twice after a lost answer. A
FIFO topic drops the second one within five minutes, by the message's identity.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError
from botocore.parsers import ResponseParserError
from msgspec import Struct

from floodmark.errors import MessageError, MessageUnanswered
from floodmark.wording import pretty_json

_SOURCE = "floodmark"
_SUBJECT_LENGTH = 99
_PASSING = ("Throttling", "ThrottlingException", "InternalError", "InternalException", "ServiceUnavailable")
_SNS_RIGHTS = "The role needs sns:Publish on the topic, and the KMS key's permissions if the topic is encrypted."
_EVENTS_RIGHTS = "The role needs events:PutEvents on the bus."


class TopicMessage(Struct, frozen=True, kw_only=True):
    """A message for programs, and for people who subscribed by e-mail.

    `document` is what programs get, as JSON. `text` and `subject` are for people. Messages with the same `identity` are
    the same message. `event` names its kind, for the filters of subscriptions.
    """

    event: str
    identity: str
    subject: str
    text: str
    document: dict[str, Any]


def send_to_aws(arn: str, message: TopicMessage, timeout: float = 5.0) -> None:
    """Send a message, once, to the topic or the bus that the ARN names. `timeout` is seconds of silence.

    Raises MessageError, MessageUnanswered.
    """
    service, region = arn.split(":")[2:4]
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=timeout, read_timeout=timeout)
    with _translated(arn, _SNS_RIGHTS if service == "sns" else _EVENTS_RIGHTS):
        client = Session().client(service, region_name=region, config=config)  # type: ignore[call-overload]
        if service == "sns":
            client.publish(**_publication(arn, message))
            return
        answer = client.put_events(Entries=[_entry(arn, message)])
    _require_accepted(arn, answer)


def _publication(arn: str, message: TopicMessage) -> dict[str, Any]:
    """Return a publication whose subscribers by e-mail get the text, and all others the document."""
    document = _json(message.document)
    texts = {"default": document, "email": message.text, "sms": message.subject}
    fifo = {"MessageGroupId": _SOURCE, "MessageDeduplicationId": message.identity} if arn.endswith(".fifo") else {}
    return {
        "TopicArn": arn,
        "Subject": _ascii_line(message.subject),
        "Message": _json(texts),
        "MessageStructure": "json",
        "MessageAttributes": {"event": {"DataType": "String", "StringValue": message.event}},
        **fifo,
    }


def _entry(arn: str, message: TopicMessage) -> dict[str, Any]:
    return {"Source": _SOURCE, "DetailType": message.event, "Detail": _json(message.document), "EventBusName": arn}


def _require_accepted(arn: str, answer: dict[str, Any]) -> None:
    """Raise the error for an entry that EventBridge did not take: its answer has status 200 even then."""
    codes = [entry["ErrorCode"] for entry in answer.get("Entries", ()) if entry.get("ErrorCode")]
    if codes:
        kind = MessageUnanswered if codes[0] in _PASSING else MessageError
        raise kind("can't send a message", on=arn, why=str(codes[0]), hint=_EVENTS_RIGHTS)


@contextmanager
def _translated(arn: str, rights: str) -> Iterator[None]:
    what = "can't send a message"
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "no code"))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        passing = status >= 500 or status == 429 or code in _PASSING
        kind = MessageUnanswered if passing else MessageError
        raise kind(what, on=arn, why=code, hint=None if passing else rights) from None
    except (ConnectionError, HTTPClientError, ResponseParserError) as error:  # the last is a proxy's own answer
        raise MessageUnanswered(what, on=arn, why=type(error).__name__) from None
    except (BotoCoreError, ValueError) as error:  # botocore's error for an endpoint that is no URL repeats it
        hint = "Give boto3 credentials. AWS_ENDPOINT_URL_SNS is for an SNS other than Amazon's."
        raise MessageError(what, on=arn, why=type(error).__name__, hint=hint) from None


def _json(document: object) -> str:
    return pretty_json(document).decode()


def _ascii_line(text: str) -> str:
    """Return a subject as SNS takes it."""
    return text.encode("ascii", "replace").decode()[:_SUBJECT_LENGTH]
