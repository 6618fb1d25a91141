"""Receivers of notifications on 127.0.0.1: an HTTP server, an SMTP server, an SNS topic and an EventBridge bus of moto,
and a proxy that plays the hosts of Slack and Teams over TLS."""

from __future__ import annotations

import email
import email.policy
import hashlib
import hmac
import itertools
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as KeepMessages
from botocore.config import Config
from msgspec import Struct

from fix_ports import HOST, own_port
from fix_storage import ACCESS_KEY, REGION, SECRET_KEY

_numbers = itertools.count(1)
ACCOUNT = "123456789012"


class HttpRequest(Struct, frozen=True):
    """A request that a receiver got. The names of its headers are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def is_signed_with(self, secret: str) -> bool:
        """Check the signature as docs/notifications.md tells receivers to."""
        timestamp = self.headers["x-floodmark-timestamp"]
        wanted = hmac.new(secret.encode(), f"{timestamp}.".encode() + self.body, hashlib.sha256).hexdigest()
        fresh = abs(time.time() - int(timestamp)) < 300
        return fresh and hmac.compare_digest(self.headers["x-floodmark-signature"], f"sha256={wanted}")


class HttpReceiver:
    """An HTTP server that keeps its requests. It gives the `answers`, one for each request, and then 200 for ever.

    An answer of 0 is none: the connection stays open, and nothing comes.
    """

    def __init__(self, *answers: int, body: bytes = b"ok", context: ssl.SSLContext | None = None) -> None:
        self.requests: list[HttpRequest] = []
        self._answers, self._body = list(answers), body
        self._end = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_POST(self) -> None:
                receiver.take(self)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/hook"

    def take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.requests.append(HttpRequest(handler.path, headers, body))
        answer = self._answers.pop(0) if self._answers else 200
        if answer == 0:
            self._end.wait(60)
            return
        handler.send_response(answer)
        if answer in (301, 302, 307, 308):
            handler.send_header("Location", f"http://{HOST}:{self.port}/elsewhere")
        handler.send_header("Content-Type", "text/plain")
        handler.end_headers()
        handler.wfile.write(self._body)

    def close(self) -> None:
        self._end.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def make_receiver() -> Iterator[Callable[..., HttpReceiver]]:
    """Receivers that give these answers: `make_receiver(500, 200)`."""
    made: list[HttpReceiver] = []

    def make(*answers: int, **named: Any) -> HttpReceiver:
        made.append(HttpReceiver(*answers, **named))
        return made[-1]

    yield make
    for one in made:
        one.close()


class _Mailbox(KeepMessages):
    def __init__(self) -> None:
        super().__init__(EmailMessage)
        self.messages: list[EmailMessage] = []

    def prepare_message(self, session: Any, envelope: Any) -> EmailMessage:
        content = envelope.content if isinstance(envelope.content, bytes) else envelope.content.encode()
        found = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(found, EmailMessage)
        return found

    def handle_message(self, message: Any) -> None:
        self.messages.append(message)


class MailServer:
    """An SMTP server that keeps what it gets. `url` is apprise's."""

    def __init__(self) -> None:
        self._mailbox = _Mailbox()
        self.port = own_port()
        self._controller = Controller(self._mailbox, hostname=HOST, port=self.port)
        self._controller.start()

    @property
    def url(self) -> str:
        return f"mailto://{HOST}:{self.port}?from=floodmark@example.org&to=team@example.org&mode=insecure"

    @property
    def messages(self) -> list[EmailMessage]:
        return self._mailbox.messages

    def close(self) -> None:
        self._controller.stop()


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    server = MailServer()
    yield server
    server.close()


class AwsReceivers:
    """A topic and a bus of moto, and the queue that both write to."""

    def __init__(self, endpoint: str, fifo: bool = False) -> None:
        name, self.endpoint = f"landed-{next(_numbers)}", endpoint
        ending = ".fifo" if fifo else ""
        options = {"FifoQueue": "true"} if fifo else {}
        self._sqs = _client("sqs", endpoint)
        self._queue = self._sqs.create_queue(QueueName=f"{name}{ending}", Attributes=options)["QueueUrl"]
        queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}{ending}"
        sns, events = _client("sns", endpoint), _client("events", endpoint)
        self.topic: str = sns.create_topic(Name=f"{name}{ending}", Attributes={"FifoTopic": "true"} if fifo else {})[
            "TopicArn"
        ]
        sns.subscribe(TopicArn=self.topic, Protocol="sqs", Endpoint=queue, Attributes={"RawMessageDelivery": "true"})
        if fifo:
            return
        self.bus: str = events.create_event_bus(Name=name)["EventBusArn"]
        events.put_rule(Name=name, EventBusName=name, EventPattern='{"source": ["floodmark"]}')
        events.put_targets(Rule=name, EventBusName=name, Targets=[{"Id": "1", "Arn": queue}])

    @property
    def environment(self) -> dict[str, str]:
        """What makes boto3 find the two."""
        return {
            "AWS_ENDPOINT_URL_SNS": self.endpoint,
            "AWS_ENDPOINT_URL_EVENTBRIDGE": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": HOST,
        }

    def received(self) -> list[Any]:
        """Return the documents that came since the last call."""
        found: list[Any] = []
        while messages := self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10).get("Messages"):
            for one in messages:
                found.append(json.loads(one["Body"]))
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=one["ReceiptHandle"])
        return found


def _client(service: str, endpoint: str) -> Any:
    session = boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION)
    return session.client(service, endpoint_url=endpoint, config=Config(proxies={}))  # type: ignore[call-overload]


@pytest.fixture
def aws_receivers(moto_server: str) -> AwsReceivers:
    return AwsReceivers(moto_server)


class ChatHosts:
    """The hosts of Slack and Teams, as a proxy on 127.0.0.1 shows them to a client that trusts the test's authority."""

    def __init__(self, folder: Path, receiver: Callable[..., HttpReceiver]) -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert("hooks.slack.com", "prod-1.uksouth.logic.azure.com")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        authority.cert_pem.write_to_path(folder / "authority.pem")
        self._authority = str(folder / "authority.pem")
        self.receiver = receiver(context=context)
        self._proxy = socket.create_server((HOST, 0))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HTTPS_PROXY": f"http://{HOST}:{self._proxy.getsockname()[1]}",
            "NO_PROXY": "",
            "REQUESTS_CA_BUNDLE": self._authority,
        }

    def close(self) -> None:
        self._proxy.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._proxy.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        """Answer CONNECT, and pass bytes in both directions until either side ends."""
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(1)
        assert head.startswith(b"CONNECT "), head
        server = socket.create_connection((HOST, self.receiver.port))
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
        back.start()
        _pass_on(client, server)
        back.join()
        server.close()
        client.close()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.fixture
def chat_hosts(tmp_path: Path, make_receiver: Callable[..., HttpReceiver]) -> Iterator[ChatHosts]:
    hosts = ChatHosts(tmp_path, make_receiver)
    yield hosts
    hosts.close()
