"""The prefix of a landing zone: the shape that its receiver reads, and the prefix that the grant covers.

Register My Data's buckets are called moj-reg-<environment>. A service has landing/<service>-<environment>/ there, and
the receiver reads below its data/. The second check asks S3 itself, because the grant can't be read. It adds a part to
an upload that does not exist: S3 checks the right to put first, and then has nothing to put.
"""

from __future__ import annotations

from collections.abc import Iterator

from floodmark.config.receivers import LANDING_ZONES
from floodmark.doctor.finding import Finding, of_error, ok, problem, unknown, warning
from floodmark.doctor.s3_client import ProbeClient
from floodmark.errors import ConfigError, StorageDenied, StorageError
from floodmark.places import bucket_of
from floodmark.storage.s3_errors import AccessDenied

_DATA = "data/"
_ENVIRONMENTS = ("dev", "test", "stage", "preprod", "prod")
_ORGANISATION = "hmpps-"
_NO_SUCH_UPLOAD = "NoSuchUpload"
_WHERE_SET = "The check `configuration` says where it is set."


def check_shape(name: str, url: str) -> Finding:
    """Compare a landing zone's URL with the shape that the receiver reads. Pure. A slash at the end changes nothing."""
    check, bucket = f"{name}: prefix", bucket_of(url) or ""
    parts = url.removeprefix(f"s3://{bucket}").strip("/").split("/")
    prefix = "/".join(parts)
    if "*" in url:
        found = "the destination holds a *, which belongs into the resource of a policy"
        return problem(check, found, f"Remove it. {_WHERE_SET}", ConfigError.exit_code)
    if parts[-1] == "data":
        parent = "".join(f"{part}/" for part in parts[:-1])
        found = f"the destination ends with data/, so keys begin with {prefix}/data/: the receiver reads {parent}data/"
        fix = f"Write s3://{bucket}/{parent} instead. A grant that ends with data/* fits it. {_WHERE_SET}"
        return problem(check, found, fix, ConfigError.exit_code)
    wrong = _unusual(bucket, parts) if bucket.startswith(LANDING_ZONES) else None
    if wrong is not None:
        fix = f"Compare it with the name of your stack in Register My Data. {_WHERE_SET}"
        return warning(check, wrong, fix)
    return ok(check, f"keys begin with {prefix}/data/" if prefix else "keys begin with data/")


def _unusual(bucket: str, parts: list[str]) -> str | None:
    """Return the difference between a prefix in Register My Data's bucket and landing/<service>-<environment>."""
    expected = f"s3://{bucket}/landing/<service>-<environment>/"
    if parts[0] != "landing":
        return f"the prefix does not begin with landing/: a stack's place is {expected}"
    if len(parts) < 2:
        return f"the prefix names no stack below landing/: a stack's place is {expected}"
    if len(parts) > 2:
        return f"{parts[-1]}/ lies deeper than a stack's place, {expected}"
    here, there = bucket.removeprefix(LANDING_ZONES), _environment_of(parts[1])
    if here in _ENVIRONMENTS and there is not None and there != here:
        return f"the bucket {bucket} is for {here}, and the stack {parts[1]} is called after {there}"
    return None


def _environment_of(stack: str) -> str | None:
    return next((one for one in _ENVIRONMENTS if stack.endswith(f"-{one}")), None)


def check_grant(client: ProbeClient) -> Finding:
    """Ask S3 if the credentials may put where a run puts. Nothing is put."""
    check = f"{client.place.name}: grant"
    try:
        if _may_put_below(client, client.prefix):
            return ok(check, f"objects may be put below s3://{client.bucket}/{client.prefix}{_DATA}")
        other = next((text for text in _other_grants(client)), None)
    except StorageDenied as error:  # the credentials themselves are refused
        return of_error(check, error)
    except StorageError as error:
        return unknown(check, f"the right to put could not be tested: {error.sentence}", error.hint)
    return _denied(client, other)


def _denied(client: ProbeClient, other: str | None) -> Finding:
    """Return the problem. `other` says what the grant covers instead, as far as that is known."""
    check, place = f"{client.place.name}: grant", f"s3://{client.bucket}/{client.prefix}{_DATA}"
    found, resource = f"the credentials may not put below {place}", f"arn:aws:s3:::{client.bucket}/{client.prefix}*"
    if other is not None:
        fix = f"Name the same prefix in the destination and in the policy, where it is {resource}. {_WHERE_SET}"
        return problem(check, f"{found}\n{other}", fix, StorageError.exit_code)
    fix = (
        f"Compare the resource of the policy in analytical-platform.tf with {resource}.\n"
        "If they are equal, the landing zone's owner must allow the ARN that `aws sts get-caller-identity` prints here."
    )
    return problem(check, found, fix, StorageError.exit_code)


def _may_put_below(client: ProbeClient, prefix: str) -> bool:
    return _may_put(client, f"{prefix}{_DATA}{client.key.removeprefix(client.prefix)}")


def _may_put(client: ProbeClient, key: str) -> bool:
    """Return true if the credentials may put this key. Raises StorageError if the answer says neither."""
    try:
        client.ask("test the right to put", "upload_part", Key=key, UploadId="floodmark-doctor", PartNumber=1, Body=b"")
    except AccessDenied:
        return False
    except StorageError as error:
        if _NO_SUCH_UPLOAD in (error.why or ""):
            return True
        raise
    why = "the store accepted a part of an upload that does not exist"
    raise StorageError("can't test the right to put", on=client.place.url, why=why)


def _other_grants(client: ProbeClient) -> Iterator[str]:
    """Yield what the grant covers instead, as far as the usual mistakes go."""
    if client.prefix:
        for key in (client.prefix, client.prefix.rstrip("/")):
            if _may_put(client, key):
                yield f"the grant covers {key} itself, and nothing below it"
    for prefix in near_prefixes(client.bucket, client.prefix):
        if _may_put_below(client, prefix):
            yield f"the grant covers s3://{client.bucket}/{prefix}"


def near_prefixes(bucket: str, prefix: str) -> list[str]:
    """Return the same prefix with and without the usual parts of a stack's name: hmpps- and the environment. Pure."""
    parent, _, stack = prefix.rstrip("/").rpartition("/")
    if not stack:
        return []
    here, there = bucket.removeprefix(LANDING_ZONES), _environment_of(stack)
    bare = stack if there is None else stack.removesuffix(f"-{there}")
    core = bare.removeprefix(_ORGANISATION)
    ends = dict.fromkeys(["", *(f"-{one}" for one in (there, here) if one in _ENVIRONMENTS)])
    stacks = [f"{start}{core}{end}" for start in ("", _ORGANISATION) for end in ends]
    above = f"{parent}/" if parent else ""
    return [f"{above}{one}/" for one in stacks if one != stack]
