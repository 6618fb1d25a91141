"""The sections of floodmark.yaml that say who is told what: `notify`, `completion` and `openlineage`. See `schema`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Struct

from floodmark.config.key_types import Grace, documented_key
from floodmark.config.settings import NotifyKind


class NotifySection(Struct, frozen=True, forbid_unknown_fields=True):
    """A channel that is told how runs end."""

    name: Annotated[
        str | None,
        documented_key(
            "The channel's name in logs, metrics and `floodmark notify test --to`: letters, digits, - _ and dots. By "
            "default it is the host of an http(s) URL in `to`, the name of a topic in `to`, or the kind of service. "
            "With `to_env` it is only the kind, such as slack or webhook.",
            examples=["on-call"],
        ),
    ] = None
    to: Annotated[
        str | None,
        documented_key(
            "The address, if it holds no secret: the ARN of an SNS topic, an http(s) URL, or mailto:// without a "
            "password. Otherwise use to_env.",
            examples=["arn:aws:sns:eu-west-2:123456789012:nightly", "https://hooks.example.org/floodmark"],
        ),
    ] = None
    to_env: Annotated[
        str | None,
        documented_key(
            "The environment variable that holds the address: a webhook of Slack or Teams, any other URL of apprise, "
            "or whatever `to` accepts.",
            examples=["SLACK_WEBHOOK"],
        ),
    ] = None
    secret_env: Annotated[
        str | None,
        documented_key(
            "The environment variable with the secret that signs each request to an http(s) URL.",
            examples=["WEBHOOK_SECRET"],
        ),
    ] = None
    on: Annotated[
        tuple[NotifyKind, ...] | None,
        documented_key(
            "The kinds of event to tell.", ["failed", "partial", "tables_gone", "contract", "audit_mismatch"]
        ),
    ] = None
    min_interval: Annotated[
        Grace | None,
        documented_key(
            "The shortest time between two messages about the same kind of event: seconds, or a text such as 12h; at "
            "most 3650d. It needs a state.",
            "0s",
        ),
    ] = None


class CompletionSection(Struct, frozen=True, forbid_unknown_fields=True):
    """The signals that follow each commit, for a scheduler."""

    object: Annotated[
        Literal["state", "destination"] | None,
        documented_key(
            "state: write <state>/complete/<run_id>.json. destination: also keep <destination>/_SUCCESS up to date."
        ),
    ] = None
    message: Annotated[
        str | None,
        documented_key(
            "The ARN of an SNS topic or an EventBridge bus that gets a message with the manifest's key.",
            examples=["arn:aws:sns:eu-west-2:123456789012:landed"],
        ),
    ] = None


class OpenLineageSection(Struct, frozen=True, forbid_unknown_fields=True):
    """The receiver of OpenLineage events about runs. Nothing is sent without a transport."""

    transport: Annotated[
        Literal["http", "file"] | None,
        documented_key("The way to the receiver. http: POST to url. file: append lines of JSON to path."),
    ] = None
    url: Annotated[
        str | None,
        documented_key(
            "With http: the receiver's address, without a user, a password or parameters.",
            examples=["https://marquez.example.org"],
        ),
    ] = None
    endpoint: Annotated[
        str | None, documented_key("With http: the path below url that takes events.", "api/v1/lineage")
    ] = None
    api_key_env: Annotated[
        str | None,
        documented_key(
            "With http: the environment variable that holds the API key, which is sent as a bearer token.",
            examples=["OPENLINEAGE_API_KEY"],
        ),
    ] = None
    path: Annotated[str | None, documented_key("With file: the file. Its folder must exist.")] = None
    namespace: Annotated[str | None, documented_key("The namespace of the job.", "floodmark")] = None
    job: Annotated[str | None, documented_key("The job's name. By default it is the database's name.")] = None
