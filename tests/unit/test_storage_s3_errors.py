"""Every answer of S3 and every failure of botocore, and the error it becomes."""

from __future__ import annotations

from typing import Any

import pytest
from botocore import exceptions as boto

from floodmark.errors import (
    ConditionFailed,
    NoConditionalWrites,
    ObjectMissing,
    StorageDenied,
    StorageError,
    StorageUnavailable,
)
from floodmark.storage.s3_errors import AccessDenied, translated

WHERE = "s3://bucket/prefix/key"


def answer(code: str, status: int, operation: str = "PutObject") -> boto.ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": "CANARY"},
        "ResponseMetadata": {"HTTPStatusCode": status, "RequestId": "R1"},
    }
    return boto.ClientError(response, operation)


def becomes(error: Exception, conditional: bool = False) -> StorageError:
    with pytest.raises(StorageError) as caught, translated("put an object", WHERE, conditional):
        raise error
    assert "CANARY" not in str(caught.value)
    assert WHERE in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    return caught.value


@pytest.mark.parametrize(
    ("code", "status", "kind", "hint"),
    [
        ("PreconditionFailed", 412, ConditionFailed, ""),
        ("412", 412, ConditionFailed, ""),
        ("ConditionalRequestConflict", 409, StorageUnavailable, ""),
        ("OperationAborted", 409, StorageUnavailable, ""),
        ("AccessDenied", 403, AccessDenied, "s3:PutObject"),
        ("AllAccessDisabled", 403, StorageDenied, ""),
        ("403", 403, AccessDenied, "s3:ListBucket"),
        ("InvalidAccessKeyId", 403, StorageDenied, "AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", 403, StorageDenied, "AWS_SECRET_ACCESS_KEY"),
        ("RequestTimeTooSkewed", 403, StorageDenied, "clock"),
        ("ExpiredToken", 400, StorageDenied, "expired"),
        ("InvalidToken", 400, StorageDenied, "AWS_SESSION_TOKEN"),
        ("NoSuchKey", 404, ObjectMissing, ""),
        ("404", 404, ObjectMissing, ""),
        ("NoSuchBucket", 404, StorageError, "bucket"),
        ("NoSuchUpload", 404, StorageUnavailable, ""),
        ("BadDigest", 400, StorageUnavailable, ""),
        ("XAmzContentSHA256Mismatch", 400, StorageUnavailable, ""),
        ("RequestTimeout", 400, StorageUnavailable, ""),
        ("InternalError", 500, StorageUnavailable, ""),
        ("SlowDown", 503, StorageUnavailable, ""),
        ("anything", 502, StorageUnavailable, ""),
        ("504", 504, StorageUnavailable, ""),
        ("TooManyRequests", 429, StorageUnavailable, ""),
        ("PermanentRedirect", 301, StorageError, "AWS_DEFAULT_REGION"),
        ("301", 301, StorageError, "AWS_DEFAULT_REGION"),
        ("AuthorizationHeaderMalformed", 400, StorageError, "AWS_DEFAULT_REGION"),
        ("EntityTooLarge", 400, StorageError, ""),
        ("NotImplemented", 501, StorageUnavailable, ""),
    ],
)
def test_answers(code: str, status: int, kind: type[StorageError], hint: str) -> None:
    error = becomes(answer(code, status))
    assert type(error) is kind
    assert hint in (error.hint or "")
    assert f"PutObject gave {code} (HTTP {status}, request R1)" == error.why


def test_if_match_on_nothing_is_a_condition_that_failed() -> None:
    assert type(becomes(answer("NoSuchKey", 404), conditional=True)) is ConditionFailed
    assert type(becomes(answer("NoSuchBucket", 404), conditional=True)) is StorageError


def test_a_store_that_has_no_conditions_is_refused_by_name() -> None:
    error = becomes(answer("NotImplemented", 501), conditional=True)
    assert type(error) is NoConditionalWrites
    assert "--allow-unconditional-writes" in str(error)


def test_a_head_says_little_and_so_the_hint_says_both() -> None:
    error = becomes(answer("400", 400, "HeadObject"))
    assert not error.retryable
    assert "expired" in str(error)
    assert "AWS_DEFAULT_REGION" in str(error)


def test_a_role_that_can_not_be_assumed_is_named() -> None:
    error = becomes(answer("InvalidIdentityToken", 400, "AssumeRoleWithWebIdentity"))
    assert type(error) is StorageDenied
    assert "AssumeRoleWithWebIdentity" in str(error)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (boto.EndpointConnectionError(endpoint_url="CANARY"), StorageUnavailable),
        (boto.ConnectTimeoutError(endpoint_url="CANARY"), StorageUnavailable),
        (boto.ReadTimeoutError(endpoint_url="CANARY"), StorageUnavailable),
        (boto.ConnectionClosedError(endpoint_url="CANARY"), StorageUnavailable),
        (boto.ProxyConnectionError(proxy_url="http://user:CANARY@proxy"), StorageUnavailable),
        (boto.SSLError(endpoint_url="CANARY", error="CANARY"), StorageUnavailable),
        (boto.HTTPClientError(error="CANARY"), StorageUnavailable),
        (boto.ResponseStreamingError(error="CANARY"), StorageUnavailable),
        (boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), StorageUnavailable),
        (boto.FlexibleChecksumError(error_msg="CANARY"), StorageUnavailable),
        (boto.NoCredentialsError(), StorageDenied),
        (boto.PartialCredentialsError(provider="env", cred_var="CANARY"), StorageDenied),
        (boto.CredentialRetrievalError(provider="custom", error_msg="CANARY"), StorageDenied),
        (boto.ProfileNotFound(profile="CANARY"), StorageDenied),
        (boto.TokenRetrievalError(provider="sso", error_msg="CANARY"), StorageDenied),
        (boto.NoRegionError(), StorageError),
        (boto.InvalidRegionError(region_name="CANARY"), StorageError),
        (boto.ParamValidationError(report="CANARY"), StorageError),
    ],
)
def test_failures_on_this_side(error: boto.BotoCoreError, kind: type[StorageError]) -> None:
    translated_error = becomes(error)
    assert type(translated_error) is kind
    assert type(error).__name__ in str(translated_error)
    assert ("AWS_DEFAULT_REGION" in str(translated_error)) == ("Region" in type(error).__name__)


@pytest.mark.parametrize("error", [RecursionError(), boto.HTTPClientError(error=RecursionError())])
def test_a_redirect_that_boto3_follows_until_the_stack_ends_is_named(error: Exception) -> None:
    """The stack ends in boto3's own code, or while a request is sent."""
    translated_error = becomes(error)
    assert type(translated_error) is StorageError
    assert "redirected in a circle" in str(translated_error) and "AWS_DEFAULT_REGION" in str(translated_error)
