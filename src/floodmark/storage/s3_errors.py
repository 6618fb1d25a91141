"""The translation of botocore's errors into storage errors: one context manager, one table of codes.

An error shows S3's code, the HTTP status and the request's id, which support asks for; never S3's text.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore import exceptions as boto
from msgspec import Struct

from floodmark.errors import (
    ConditionFailed,
    ConfigError,
    ObjectMissing,
    StorageDenied,
    StorageError,
    StorageUnavailable,
)
from floodmark.storage.probe import no_conditional_writes

_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.MetadataRetrievalError,
    boto.ProfileNotFound,
    boto.SSOError,
    boto.TokenRetrievalError,
    boto.NoAuthTokenError,
    boto.RefreshWithMFAUnsupportedError,
    boto.ConfigParseError,
    boto.ConfigNotFound,
)
_PASSING = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    boto.ChecksumError,
    boto.FlexibleChecksumError,
)

_LOOKED_FOR = (
    "boto3 looks for AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_WEB_IDENTITY_TOKEN_FILE with "
    "AWS_ROLE_ARN (a Kubernetes service account), AWS_PROFILE, ~/.aws, and the container's or instance's role."
)
_PERMISSIONS = (
    "Check that the role may do this below this prefix: s3:PutObject, s3:GetObject (If-Match needs it too), "
    "s3:DeleteObject for prune, s3:PutObjectAcl where an ACL is set, the KMS key's permissions where one is. "
    "Without s3:ListBucket S3 answers 403, not 404, for a missing key."
)
_REGION = "AWS_DEFAULT_REGION must name the bucket's region."
_UNREACHABLE = "Check the network, HTTPS_PROXY / NO_PROXY, AWS_ENDPOINT_URL_S3 and, for TLS, AWS_CA_BUNDLE."


class AccessDenied(StorageDenied):
    """A plain refusal by S3: the right is missing, or both the object and the right to list are missing."""


Kind = type[StorageError]
_CODES: dict[str, tuple[Kind, str | None]] = {
    "NoSuchKey": (ObjectMissing, None),
    "AccessDenied": (AccessDenied, _PERMISSIONS),
    "403": (AccessDenied, _PERMISSIONS),  # botocore's code for an answer without a text, such as one to HEAD
    "NoSuchBucket": (StorageError, "There is no such bucket: check its name, and AWS_ENDPOINT_URL_S3."),
    "NoSuchUpload": (StorageUnavailable, None),
    "InvalidBucketName": (StorageError, "The bucket's name is not one S3 allows."),
    "PermanentRedirect": (StorageError, _REGION),
    "TemporaryRedirect": (StorageUnavailable, _REGION),
    "AuthorizationHeaderMalformed": (StorageError, _REGION),
    "IllegalLocationConstraintException": (StorageError, _REGION),
    "BadDigest": (StorageUnavailable, None),
    "InvalidDigest": (StorageUnavailable, None),
    "XAmzContentSHA256Mismatch": (StorageUnavailable, None),
    "XAmzContentChecksumMismatch": (StorageUnavailable, None),
    "IncompleteBody": (StorageUnavailable, None),
    "RequestTimeout": (StorageUnavailable, None),
    "SlowDown": (StorageUnavailable, None),
    "Throttling": (StorageUnavailable, None),
    "ThrottlingException": (StorageUnavailable, None),
    "TooManyRequests": (StorageUnavailable, None),
    "RequestTimeTooSkewed": (StorageDenied, "This machine's clock is wrong."),
    "ExpiredToken": (StorageDenied, "The session token has expired: get a new one."),
    "ExpiredTokenException": (StorageDenied, "The web identity token has expired: the pod needs a new one."),
    "InvalidToken": (StorageDenied, "AWS_SESSION_TOKEN does not belong to the access key."),
    "InvalidAccessKeyId": (StorageDenied, "S3 does not know AWS_ACCESS_KEY_ID."),
    "SignatureDoesNotMatch": (StorageDenied, "AWS_SECRET_ACCESS_KEY does not belong to the access key."),
    "InvalidIdentityToken": (StorageDenied, "The role does not trust the service account's token."),
}
_STATUSES: dict[int, tuple[Kind, str | None]] = {
    301: (StorageError, _REGION),
    401: (StorageDenied, _PERMISSIONS),
    403: (StorageDenied, _PERMISSIONS),
    404: (ObjectMissing, None),
    408: (StorageUnavailable, None),
    409: (StorageUnavailable, None),
    412: (ConditionFailed, None),
    429: (StorageUnavailable, None),
}


class Refusal(Struct, frozen=True):
    """The parts of S3's answer that an error shows."""

    operation: str
    code: str
    status: int
    request_id: str

    @property
    def text(self) -> str:
        request = f", request {self.request_id}" if self.request_id else ""
        return f"{self.operation} gave {self.code} (HTTP {self.status}{request})"


@contextmanager
def translated(what: str, where: str, conditional: bool = False) -> Iterator[None]:
    """Raise the StorageError that corresponds to a botocore error: can't do `what`. `where` is the object's URL."""
    what = f"can't {what}"
    try:
        yield
    except boto.ClientError as error:
        raise from_answer(_refusal(error), what, where, conditional) from None
    except boto.BotoCoreError as error:
        if isinstance(error.kwargs.get("error"), RecursionError):  # the stack ended while a request was sent
            raise _redirected(what, where) from None
        raise from_client(error, what, where) from None
    except RecursionError:
        raise _redirected(what, where) from None


def _redirected(what: str, where: str) -> StorageError:
    """Return the error for a redirect that names no region: boto3 follows it until the stack ends."""
    return StorageError(what, on=where, why="redirected in a circle", hint=_REGION)


def from_answer(refusal: Refusal, what: str, where: str, conditional: bool = False) -> StorageError:
    """Return the error for an answer. S3's code counts if it says more than the HTTP status."""
    if conditional and (refusal.code == "NotImplemented" or refusal.status == 501):
        return no_conditional_writes(where, refusal.text)
    kind, hint = _CODES.get(refusal.code) or _STATUSES.get(refusal.status) or _other(refusal)
    if conditional and kind is ObjectMissing:
        kind = ConditionFailed  # If-Match on a key without an object
    return kind(what, on=where, why=refusal.text, hint=hint)


def no_credentials(where: str, why: str = "boto3 found none") -> StorageDenied:
    return StorageDenied("can't find credentials", on=where, why=why, hint=_LOOKED_FOR)


def bad_endpoint(where: str) -> ConfigError:
    return ConfigError(
        "can't connect to S3",
        on=where,
        why="the endpoint is not a URL",
        hint="Write AWS_ENDPOINT_URL_S3 (or AWS_ENDPOINT_URL) as https://host[:port], or leave it out for Amazon's S3.",
    )


def from_client(error: boto.BotoCoreError, what: str, where: str) -> StorageError:
    """Return the error for a failure on this side or on the way: no answer, or a broken one."""
    why = type(error).__name__
    if isinstance(error, _CREDENTIALS):
        return no_credentials(where, why)
    if isinstance(error, boto.NoRegionError | boto.InvalidRegionError):
        return StorageError(what, on=where, why=why, hint=_REGION)
    if isinstance(error, _PASSING):
        return StorageUnavailable(what, on=where, why=why, hint=_UNREACHABLE)
    return StorageError(what, on=where, why=why)


def _other(refusal: Refusal) -> tuple[Kind, str | None]:
    if refusal.operation == "HeadObject" and refusal.status == 400:
        return StorageError, f"A HEAD's answer has no text: an expired token, or the wrong region. {_REGION}"
    return (StorageUnavailable, None) if refusal.status >= 500 else (StorageError, None)


def _refusal(error: boto.ClientError) -> Refusal:
    about = error.response.get("ResponseMetadata", {})
    return Refusal(
        operation=error.operation_name,
        code=str(error.response.get("Error", {}).get("Code", "no code")),
        status=int(about.get("HTTPStatusCode", 0)),
        request_id=str(about.get("RequestId", "")),
    )
