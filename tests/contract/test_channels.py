"""What every way to a receiver of notifications owes its callers: see `floodmark.notify.channels.base`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import pytest
from msgspec import Struct

from fix_canaries import CANARY, require_none
from fix_ports import HOST, closed_port
from fix_receivers import AwsReceivers, HttpReceiver, MailServer
from floodmark.config import ChannelSettings, NotifyKind, Secret
from floodmark.errors import MessageError, MessageUnanswered
from floodmark.notify.channels import Channel, open_channel
from floodmark.notify.channels.memory import MemoryChannel
from floodmark.notify.facts import Problem, RunFacts, TableFact
from floodmark.notify.message import Message, compose

WAYS = ("memory", "webhook", "topic", "mail", "people")
FACTS = RunFacts(
    outcome="partial",
    exit_code=3,
    database="cases",
    run_id="20261124T010203Z-7f3a9c",
    destination="s3://lake/cases",
    problems=(Problem("a delivery failed", "moj", "denied", "Grant it."),),
    tables=(TableFact("partial", "public", "person", "denied", "the role has no right to read it"),),
    checked=2,
    changed=1,
)


class Way(Struct):
    """A way to a receiver, and what came out at its end: each message's title, and its text."""

    channel: Channel
    received: Callable[[], list[tuple[str, str]]]


def channel(kind: Any, to: str, secret: str | None = None) -> Channel:
    on: tuple[NotifyKind, ...] = ("failed",)
    return open_channel(
        ChannelSettings(name="team", kind=kind, to=Secret(to), on=on, secret=None if secret is None else Secret(secret))
    )


def documents(receiver: HttpReceiver) -> list[tuple[str, str]]:
    return [(one.json["title"], one.json["text"]) for one in receiver.requests]


@pytest.fixture
def make_way(
    make_receiver: Callable[..., HttpReceiver], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[[str], Way]:
    def make(name: str) -> Way:
        if name == "memory":
            kept = MemoryChannel("team")
            return Way(kept, lambda: [(one.title, one.text()) for one in kept.received])
        if name == "webhook":
            http = make_receiver()
            return Way(channel("webhook", http.url, f"{CANARY}-secret"), lambda: documents(http))
        if name == "topic":
            aws: AwsReceivers = request.getfixturevalue("aws_receivers")
            for variable, value in aws.environment.items():
                monkeypatch.setenv(variable, value)
            return Way(channel("topic", aws.topic), lambda: [(one["title"], one["text"]) for one in aws.received()])
        if name == "mail":
            mail: MailServer = request.getfixturevalue("mail_server")
            return Way(channel("people", mail.url), lambda: [mail_texts(one) for one in mail.messages])
        http = make_receiver()
        address = f"json://user:{CANARY}@{HOST}:{http.port}/hook"
        return Way(
            channel("people", address), lambda: [(one.json["title"], one.json["message"]) for one in http.requests]
        )

    return make


def mail_texts(mail: Any) -> tuple[str, str]:
    return str(mail["Subject"]), mail.get_body(("plain", "html")).get_content()


def message() -> Message:
    return compose(FACTS, ["partial"], "https://runbooks.example.org/runbook.md")


@pytest.mark.parametrize("name", WAYS)
def test_a_message_arrives_with_its_title_its_tables_the_reason_and_the_runbook(
    name: str, make_way: Callable[[str], Way]
) -> None:
    way = make_way(name)
    assert way.channel.name == "team"
    way.channel.send(message(), 5.0)
    ((title, text),) = way.received()
    assert title == "Floodmark: cases: the run is committed, but incomplete"
    for part in ("public.person", "denied: the role has no right", "Grant it.", "runbook.md#floodmarktablefailed"):
        assert part in text
    way.channel.send(message(), 5.0)
    assert len(way.received()) == (1 if name == "topic" else 2)


def dead(name: str, port: int, monkeypatch: pytest.MonkeyPatch) -> Channel:
    """A way to a port at which nobody answers as it should."""
    if name == "memory":
        return MemoryChannel("team", [MessageUnanswered("can't send a notification", on="team", why="refused")])
    if name == "webhook":
        return channel("webhook", f"http://{HOST}:{port}/{CANARY}", f"{CANARY}-secret")
    if name == "topic":
        for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(variable, f"{CANARY}-key")
        monkeypatch.setenv("AWS_ENDPOINT_URL_SNS", f"http://{HOST}:{port}")
        monkeypatch.setenv("NO_PROXY", HOST)
        return channel("topic", "arn:aws:sns:eu-west-2:123456789012:nightly")
    if name == "mail":
        return channel("people", f"mailto://me:{CANARY}@{HOST}:{port}?from=a@example.org&to=b@example.org")
    return channel("people", f"json://me:{CANARY}@{HOST}:{port}/{CANARY}")


def require_no_secret(error: MessageError, capfd: pytest.CaptureFixture[str]) -> None:
    assert error.on == "team" and error.why
    require_none(str(error), repr(error.args))
    shown = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert shown is None, "a traceback would show what the library said"
    told = capfd.readouterr()
    assert told.out + told.err == ""


@pytest.mark.parametrize("name", WAYS)
def test_a_receiver_that_is_down_can_be_tried_again_and_its_error_holds_no_secret(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MessageUnanswered) as caught:
        dead(name, closed_port(), monkeypatch).send(message(), 2.0)
    require_no_secret(caught.value, capfd)


@pytest.mark.parametrize("name", [one for one in WAYS if one != "memory"])
def test_a_receiver_that_never_answers_is_waited_for_no_longer_than_told(
    name: str,
    make_receiver: Callable[..., HttpReceiver],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    silent = make_receiver(0)
    begun = time.monotonic()
    with pytest.raises(MessageUnanswered) as caught:
        dead(name, silent.port, monkeypatch).send(message(), 0.4)
    assert 0.3 < time.monotonic() - begun < 1.5
    require_no_secret(caught.value, capfd)


def refusing(name: str, receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> Channel:
    return dead(name, receiver.port, monkeypatch)


AWS_REFUSAL = b"<ErrorResponse><Error><Code>Refused</Code><Message>c4n4ry</Message></Error></ErrorResponse>"


@pytest.mark.parametrize("name", ["webhook", "topic", "people"])
@pytest.mark.parametrize("status", [403, 404, 429, 500, 503])
def test_a_refusal_tells_if_another_try_can_succeed(
    name: str,
    status: int,
    make_receiver: Callable[..., HttpReceiver],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(MessageError) as caught:
        refusing(name, make_receiver(status, body=AWS_REFUSAL), monkeypatch).send(message(), 2.0)
    assert caught.value.retryable is (status not in (403, 404))
    assert name == "topic" or str(status) in (caught.value.why or "")
    require_no_secret(caught.value, capfd)


def test_an_address_that_apprise_does_not_know_is_refused_without_being_shown(
    capfd: pytest.CaptureFixture[str],
) -> None:
    for address in (f"slack://{CANARY}", f"nosuchservice://{CANARY}/x", f"mailto://{CANARY} x"):
        with pytest.raises(Exception) as caught:
            channel("people", address)
        assert getattr(caught.value, "exit_code", None) == 10
        require_none(str(caught.value))
    told = capfd.readouterr()
    assert told.out + told.err == ""


def test_an_answer_that_is_not_of_sns_tells_nothing_about_it(
    make_receiver: Callable[..., HttpReceiver], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A proxy that answers in its own words."""
    with pytest.raises(MessageUnanswered) as caught:
        refusing("topic", make_receiver(403, body=CANARY.encode()), monkeypatch).send(message(), 2.0)
    require_no_secret(caught.value, capfd)


def test_a_signature_covers_the_body_and_the_time(make_receiver: Callable[..., HttpReceiver]) -> None:
    http = make_receiver()
    channel("webhook", http.url, "shared").send(message(), 5.0)
    (request,) = http.requests
    assert request.is_signed_with("shared") and not request.is_signed_with("other")
    body = json.dumps({**request.json, "kinds": ["succeeded"]}).encode()
    headers = {**request.headers, "x-floodmark-timestamp": str(int(request.headers["x-floodmark-timestamp"]) - 60)}
    assert not type(request)(request.path, request.headers, body).is_signed_with("shared")
    assert not type(request)(request.path, headers, request.body).is_signed_with("shared")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-floodmark-id"] == request.json["id"]
    assert request.headers["x-floodmark-event"] == request.json["format"] == "floodmark.notification"


def test_a_redirect_is_not_followed(make_receiver: Callable[..., HttpReceiver]) -> None:
    http = make_receiver(307)
    with pytest.raises(MessageError, match="it answered 307"):
        channel("webhook", http.url, "shared").send(message(), 5.0)
    assert len(http.requests) == 1


def test_people_subscribed_to_a_topic_get_the_text(
    aws_receivers: AwsReceivers, monkeypatch: pytest.MonkeyPatch, make_receiver: Callable[..., HttpReceiver]
) -> None:
    """What SNS is asked for, as it goes over the wire: each protocol has its own form."""
    sns = make_receiver(400, body=AWS_REFUSAL)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SNS", f"http://{HOST}:{sns.port}")
    monkeypatch.setenv("NO_PROXY", HOST)
    with pytest.raises(MessageError):
        channel("topic", "arn:aws:sns:eu-west-2:123456789012:nightly.fifo").send(message(), 2.0)
    asked = {name: values[0] for name, values in parse_qs(sns.requests[0].body.decode()).items()}
    texts = json.loads(asked["Message"])
    assert asked["MessageStructure"] == "json" and asked["MessageGroupId"] == "floodmark"
    assert json.loads(texts["default"])["kinds"] == ["partial"]
    assert "public.person" in texts["email"] and texts["sms"] == asked["Subject"]
