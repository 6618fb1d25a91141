"""Checks of S3 for a run's needs. Nothing stays: the checks put only what they can delete.

In a landing zone they put nothing at all, because its receiver would take it for data.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from floodmark.doctor.finding import Finding, of_error, ok, problem, unknown, warning
from floodmark.doctor.landing_prefix import check_grant, check_shape
from floodmark.doctor.s3_client import BODY, ProbeClient, S3Place
from floodmark.errors import (
    ConditionFailed,
    FloodmarkError,
    NoConditionalWrites,
    ObjectMissing,
    StorageDenied,
    StorageError,
)
from floodmark.storage.probe import no_conditional_writes
from floodmark.storage.s3_errors import AccessDenied

_NO_ETAG = '"00000000000000000000000000000000"'
_SKEW, _REFUSED_SKEW = 60, 900  # seconds; S3 itself refuses from 15 minutes on


def probe_place(place: S3Place, unconditional: bool) -> Iterator[Finding]:
    """Try every right at a place whose objects stay. `unconditional`: the user works without conditional writes."""
    try:
        client = ProbeClient(place)
        listing = _check_listing(client)
    except FloodmarkError as error:
        yield of_error(place.name, error)
        yield unknown(f"{place.name}: rights", "not tested: the store can't be reached")
        return
    yield ok(place.name, f"{place.url} answers")
    yield listing
    yield _check_clock(client)
    yield from _check_objects(client, unconditional)
    yield _check_abort(client)
    yield from _check_bucket(client)


def inspect_landing_zone(place: S3Place) -> Iterator[Finding]:
    """Check a landing zone with requests that touch no object."""
    yield check_shape(place.name, place.url)
    try:
        client = ProbeClient(place)
        client.ask("look at the bucket", "head_bucket")
    except AccessDenied:
        yield unknown(
            place.name,
            f"{place.url} answers only HTTP 403: the bucket exists, or the credentials are wrong",
            f"That is fine if the role may only put: see the check `{place.name}: grant`.",
        )
    except ObjectMissing:
        fix = "Check the bucket's name and AWS_ENDPOINT_URL_S3."
        yield problem(place.name, f"the bucket {client.bucket} does not exist", fix, StorageError.exit_code)
        return
    except FloodmarkError as error:
        yield of_error(place.name, error)
        return
    else:
        yield ok(place.name, f"{place.url} answers")
    yield _check_clock(client)
    yield check_grant(client)
    sent = ", ".join(part for part in (place.options.acl, place.options.sse) if part)
    found = f"puts ({sent}) were not tested: the receiver would take a test object for data"
    yield unknown(f"{place.name}: write", found, "Test with one small table: `floodmark run --table`.")


def _check_listing(client: ProbeClient) -> Finding:
    """List the place. This is the first request, so errors in credentials, region or bucket show here."""
    check = f"{client.place.name}: list"
    try:
        client.ask("list objects", "list_objects_v2", Prefix=client.key, MaxKeys=1)
    except AccessDenied:
        found = "s3:ListBucket is missing: S3 then answers 403 for a missing object; only prune must list"
        return warning(
            check, found, f"Allow s3:ListBucket on {client.bucket}, with the condition s3:prefix, if you can."
        )
    return ok(check, "objects may be listed")


def _check_clock(client: ProbeClient) -> Finding:
    check = f"{client.place.name}: clock"
    if client.skew is None:
        return unknown(check, "the store's answers have no date")
    return judged_skew(check, client.skew)


def judged_skew(check: str, skew: float) -> Finding:
    """Judge the clock. `skew` is how many seconds this machine's clock is ahead. Pure."""
    if abs(skew) < _SKEW:
        return ok(check, "this machine's clock and the store's agree")
    found = f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the store's"
    fix = "Set the time of this machine (of a pod: its node) by NTP: timedatectl set-ntp true"
    if abs(skew) < _REFUSED_SKEW:
        return warning(check, found, fix)
    return problem(check, found, fix, StorageError.exit_code)


def _check_objects(client: ProbeClient, unconditional: bool) -> Iterator[Finding]:
    """Check put, get, conditions, checksum and delete on one test object.

    No test object is put if it can't be deleted.
    """
    name = client.place.name
    try:
        client.ask("delete an object", "delete_object", Key=client.key)
    except StorageError as error:
        found = f"an object may not be deleted ({error.why})"
        fix = f"Allow s3:DeleteObject below {client.place.url}: prune needs it, and a first run, to delete its probe."
        yield (
            problem(f"{name}: delete", found, fix, error.exit_code)
            if name == "state"
            else warning(f"{name}: delete", found, fix)
        )
        yield unknown(f"{name}: write", "not tested: a test object could not be deleted")
        return
    try:
        yield _check_write(client)
    except StorageError as error:
        yield _write_problem(client, error)
        return
    try:
        yield _check_read(client)
        yield _check_checksum(client)
        yield _check_conditions(client, unconditional)
    finally:
        removed = _remove_probe(client)
    yield removed


def _check_write(client: ProbeClient) -> Finding:
    client.put("put an object")
    options = client.place.options
    sent = [text for text in (options.acl and f"ACL {options.acl}", options.sse and f"SSE {options.sse}") if text]
    return ok(
        f"{client.place.name}: write", " and ".join(["objects may be put", *(f"{one} is accepted" for one in sent)])
    )


def _write_problem(client: ProbeClient, error: StorageError) -> Finding:
    options, fix = client.place.options, error.hint or "Look up the code in S3's list of error codes."
    if options.acl or options.sse:
        fix += (
            f"\nIt was sent with ACL {options.acl or 'none'} and SSE {options.sse or 'none'}: see destination.acl, "
            "destination.sse and destination.kms_key_id."
        )
    return problem(f"{client.place.name}: write", error.sentence, fix, error.exit_code)


def _check_read(client: ProbeClient) -> Finding:
    check = f"{client.place.name}: read"
    try:
        data = client.ask("read an object", "get_object", Key=client.key)["Body"].read()
    except StorageError as error:
        return of_error(check, error)
    if data != BODY:
        fix = "Do not use this store, or the proxy in front of it."
        return problem(check, "the store returned other bytes than were put", fix, StorageError.exit_code)
    return ok(check, "objects may be read")


def _check_checksum(client: ProbeClient) -> Finding:
    """Check that S3 refuses bytes that do not match the checksum."""
    check = f"{client.place.name}: checksum"
    try:
        client.put("put a damaged object", BODY[::-1])
    except StorageDenied as error:
        return unknown(check, error.sentence, error.hint)
    except StorageError as error:
        if 400 <= client.status < 500:
            return ok(check, "the store verifies checksums: a damaged object is refused")
        return unknown(check, error.sentence, error.hint)
    found = "the store accepted an object with a wrong SHA-256"
    return warning(check, found, "Damage in transit would stay unnoticed: run `floodmark verify --deep`, or use S3.")


def _check_conditions(client: ProbeClient, unconditional: bool) -> Finding:
    check = f"{client.place.name}: conditional put"
    try:
        for header, value in (("IfNoneMatch", "*"), ("IfMatch", _NO_ETAG)):
            _must_refuse(client, header, value)
    except NoConditionalWrites as error:
        if unconditional:
            return warning(check, error.sentence, "You accepted this: never let two runs overlap.")
        return of_error(check, error)
    except StorageError as error:
        return of_error(check, error)
    return ok(check, "If-None-Match and If-Match are honoured")


def _must_refuse(client: ProbeClient, header: str, value: str) -> None:
    with suppress(ConditionFailed):
        client.put("put an object on a condition", condition={header: value})
        raise no_conditional_writes(client.place.url, f"it accepted a write whose {header} condition was false")


def _remove_probe(client: ProbeClient) -> Finding:
    """Delete the test object."""
    check = f"{client.place.name}: delete"
    try:
        client.ask("delete an object", "delete_object", Key=client.key)
    except StorageError as error:
        fix = f"Delete s3://{client.bucket}/{client.key}"
        return warning(check, f"the test object is left behind: {error.sentence}", fix)
    return ok(check, f"objects may be deleted; the test object is gone{_remove_versions(client)}")


def _remove_versions(client: ProbeClient) -> str:
    """Delete the test object's versions and delete markers, which a versioned bucket keeps, if the rights allow it."""
    try:
        for version in tuple(client.versions):
            client.ask("delete a version", "delete_object", Key=client.key, VersionId=version)
    except StorageError:
        return ", except for old versions, which the bucket keeps"
    return ""


def _check_abort(client: ProbeClient) -> Finding:
    """Check the right to abort uploads, on an upload that does not exist.

    With the right, S3 answers that the upload is missing.
    """
    check = f"{client.place.name}: abort uploads"
    try:
        client.ask("abort an upload", "abort_multipart_upload", Key=client.key, UploadId="floodmark-doctor")
    except AccessDenied:
        found = "s3:AbortMultipartUpload is missing: the parts of broken uploads stay, and cost money"
        fix = "Allow it, or give the bucket a lifecycle rule with AbortIncompleteMultipartUpload."
        return warning(check, found, fix)
    except StorageError as error:
        if not error.retryable and not isinstance(error, ObjectMissing):
            return unknown(check, error.sentence)
    return ok(check, "uploads may be aborted")


def _check_bucket(client: ProbeClient) -> Iterator[Finding]:
    """Check versioning, which a restore of the state needs, and rules that would delete what a manifest names."""
    name = client.place.name
    if name == "state":
        yield _check_versions(client)
    try:
        answer = client.ask("read the lifecycle rules", "get_bucket_lifecycle_configuration")
    except StorageError as error:
        if "NoSuchLifecycleConfiguration" not in (error.why or ""):
            yield unknown(
                f"{name}: lifecycle", "the bucket's lifecycle rules may not be read", "Only this check needs the right."
            )
            return
        answer = {}
    yield judged_rules(f"{name}: lifecycle", answer.get("Rules", []), client.prefix)


def _check_versions(client: ProbeClient) -> Finding:
    check = f"{client.place.name}: versions"
    try:
        status = client.ask("read the bucket's versioning", "get_bucket_versioning").get("Status")
    except StorageError:
        return unknown(check, "the bucket's versioning may not be read", "Only this check needs the right.")
    if status == "Enabled":
        return ok(check, "the bucket keeps versions: a damaged state can be restored")
    fix = f"aws s3api put-bucket-versioning --bucket {client.bucket} --versioning-configuration Status=Enabled"
    return warning(check, "the bucket keeps no versions: a deleted state is lost", fix)


def judged_rules(check: str, rules: list[dict[str, Any]], prefix: str) -> Finding:
    """Judge the lifecycle rules. A rule that expires objects at this prefix deletes what a manifest names. Pure."""
    active = [rule for rule in rules if rule.get("Status") == "Enabled" and _covers_prefix(rule, prefix)]
    expiring = [str(rule.get("ID", "without a name")) for rule in active if _expires_objects(rule)]
    if expiring:
        found = f"the rule {', '.join(expiring)} expires objects here, whether or not the manifest names them"
        return warning(check, found, "Exclude this prefix, or let the rule expire old versions only.")
    if not any("AbortIncompleteMultipartUpload" in rule for rule in active):
        fix = "Add one: AbortIncompleteMultipartUpload after 7 days (ops/terraform has it)."
        return warning(check, "no rule deletes the parts of broken uploads", fix)
    return ok(check, "no rule expires objects here, and one deletes broken uploads")


def _expires_objects(rule: dict[str, Any]) -> bool:
    expiration = rule.get("Expiration", {})
    return "Days" in expiration or "Date" in expiration


def _covers_prefix(rule: dict[str, Any], prefix: str) -> bool:
    given = rule.get("Filter", {})
    of_rule = str(rule.get("Prefix") or given.get("Prefix") or given.get("And", {}).get("Prefix") or "")
    return of_rule.startswith(prefix) or prefix.startswith(of_rule)
