"""A client for doctor's checks of S3: single requests, with errors translated."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from msgspec import Struct

from floodmark.storage import StorageOptions
from floodmark.storage.s3_errors import bad_endpoint, no_credentials, translated

BODY = b"Floodmark's doctor wrote this test object and deletes it.\n"
_NONE: Mapping[str, str] = MappingProxyType({})


class S3Place(Struct, frozen=True):
    """A destination or state in S3. `name` is its name in the configuration."""

    name: str
    url: str
    options: StorageOptions
    session: Session


def boto_session() -> Session:
    """Return boto3's view of the environment, shared by all places. Raises StorageError if it can't be read."""
    with translated("read boto3's configuration", "s3"):
        return Session()


class ProbeClient:
    """A client for requests without retries that translates errors. It notes each answer's date and status."""

    def __init__(self, place: S3Place) -> None:
        self.place = place
        self.bucket, _, prefix = place.url.removeprefix("s3://").partition("/")
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.key = f"{self.prefix}floodmark-doctor-{uuid.uuid4().hex}"
        self.skew: float | None = None
        self.status = 0
        self.versions: list[str] = []
        with translated("find credentials", place.url):
            found = place.session.get_credentials()
            if found is None:
                raise no_credentials(place.url)
            found.get_frozen_credentials()
            config = Config(retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=30)
            try:
                self.s3 = place.session.client("s3", config=config)
            except BotoCoreError:
                raise
            except ValueError:
                raise bad_endpoint(place.url) from None
        self.s3.meta.events.register("after-call.s3", self._note)

    def ask(self, what: str, operation: str, *, conditional: bool = False, **parameters: Any) -> Any:
        """Make one request. Raises StorageError."""
        self.status = 0
        with translated(what, self.place.url, conditional):
            answer = getattr(self.s3, operation)(Bucket=self.bucket, **parameters)
        if operation in ("put_object", "delete_object") and answer.get("VersionId"):
            self.versions.append(answer["VersionId"])
        return answer

    def put(self, what: str, body: bytes = BODY, condition: Mapping[str, str] = _NONE) -> Any:
        options = self.place.options
        given = {"ACL": options.acl, "ServerSideEncryption": options.sse, "SSEKMSKeyId": options.kms_key_id}
        return self.ask(
            what,
            "put_object",
            conditional=bool(condition),
            Key=self.key,
            Body=body,
            ChecksumSHA256=base64.b64encode(hashlib.sha256(BODY).digest()).decode(),
            **{name: value for name, value in given.items() if value is not None},
            **condition,
        )

    def _note(self, http_response: Any, **_: Any) -> None:
        self.status = http_response.status_code
        with suppress(TypeError, ValueError):  # no date, or an invalid one
            store_time = parsedate_to_datetime(http_response.headers.get("date"))
            self.skew = (datetime.now(UTC) - store_time).total_seconds()
