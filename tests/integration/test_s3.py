"""S3Storage on real servers, directly and through a proxy that loses answers, cuts them or makes them up."""

from __future__ import annotations

import base64
import hashlib
import io
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from moto.core import DEFAULT_ACCOUNT_ID

import fix_s3_proxy as fault
from fix_ports import HOST, closed_port
from fix_s3_proxy import S3Proxy
from fix_storage import ACCESS_KEY, SECRET_KEY, S3Bucket, S3Server, use
from floodmark.errors import (
    ConditionFailed,
    NoConditionalWrites,
    ObjectMissing,
    OutcomeUnknown,
    StorageDenied,
    StorageError,
    StorageUnavailable,
)
from floodmark.events import Event, Retried
from floodmark.storage import StorageOptions, open_storage
from floodmark.storage.base import Body, Condition, IfAbsent, IfMatch, Storage
from floodmark.storage.probe import body_of
from floodmark.storage.retry import RetryingStorage
from floodmark.storage.s3 import S3Storage

MakeProxy = Callable[[str], S3Proxy]
MIB = 1024**2
PUT_BIG = """
import hashlib, re, sys, tempfile
from pathlib import Path
from floodmark.storage.base import Body, IfAbsent
from floodmark.storage.s3 import S3Storage
from floodmark.storage.probe import body_of

def peak():
    # ru_maxrss would count what the parent had when it forked
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

store = S3Storage(sys.argv[1], single_put_bytes=int(sys.argv[2]), part_bytes=32 * 1024**2)
store.put("small", body_of(b"warm"))
with tempfile.TemporaryFile() as file:
    digest = hashlib.sha256()
    for number in range(200):
        block = number.to_bytes(4) * (1024**2 // 4)
        file.write(block)
        digest.update(block)
    before = peak()
    store.put("big", Body(file, file.tell(), digest.hexdigest()), IfAbsent())
print(peak() - before)
"""


@pytest.fixture
def proxy(s3_bucket: S3Bucket, s3_server: S3Server, make_proxy: MakeProxy, monkeypatch: pytest.MonkeyPatch) -> S3Proxy:
    """A proxy before SeaweedFS; the environment leads through it."""
    made = make_proxy(s3_server.endpoint)
    use(monkeypatch, made.endpoint)
    return made


@pytest.fixture
def store(proxy: S3Proxy, s3_bucket: S3Bucket) -> S3Storage:
    return S3Storage(s3_bucket.name, "p")


def patient(store: Storage, events: list[Event]) -> RetryingStorage:
    return RetryingStorage(store, events.append, sleep=lambda seconds: None)


def content(bucket: S3Bucket, key: str) -> bytes:
    return bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read()


def keys(bucket: S3Bucket) -> list[str]:
    return [found["Key"] for found in bucket.client.list_objects_v2(Bucket=bucket.name).get("Contents", [])]


def test_a_put_is_one_request_with_checksum_and_condition(store: S3Storage, proxy: S3Proxy) -> None:
    store.put("key", body_of(b"water"), IfAbsent())
    [seen] = proxy.seen
    assert (seen.method, seen.path.split("/", 2)[2], seen.body) == ("PUT", "p/key", b"water")
    digest = base64.b64encode(hashlib.sha256(b"water").digest()).decode()
    assert seen.headers["x-amz-checksum-sha256"] == digest
    assert seen.headers["if-none-match"] == "*"
    assert "x-amz-acl" not in seen.headers


def test_acl_encryption_and_key_go_with_every_put(proxy: S3Proxy, s3_bucket: S3Bucket) -> None:
    options = StorageOptions(acl="bucket-owner-full-control", sse="aws:kms", kms_key_id="a-key")
    store = S3Storage(s3_bucket.name, options=options, single_put_bytes=5 * MIB, part_bytes=5 * MIB)
    proxy.always = lambda seen, forward: fault.Answer(200, {"content-length": "0", "etag": '"x"'}, b"")
    store.put("small", body_of(b""))
    proxy.always = fault.error(500, "InternalError")
    with pytest.raises(StorageUnavailable):
        store.put("big", body_of(bytes(6 * MIB)))
    for seen in proxy.seen:
        assert seen.headers["x-amz-acl"] == "bucket-owner-full-control"
        assert seen.headers["x-amz-server-side-encryption"] == "aws:kms"
        assert seen.headers["x-amz-server-side-encryption-aws-kms-key-id"] == "a-key"
    assert proxy.asked == ["PUT", "POST"]


def test_a_landing_zone_sees_puts_and_nothing_else(proxy: S3Proxy, s3_bucket: S3Bucket) -> None:
    options = StorageOptions(acl="bucket-owner-full-control", sse="AES256", conditional=False)
    store = open_storage(f"{s3_bucket.url}/landing", options)
    store.check()
    store.put("data/a", body_of(b"lines"))
    [seen] = proxy.seen
    assert seen.method == "PUT"
    assert seen.headers["x-amz-server-side-encryption"] == "AES256"
    assert not [name for name in seen.headers if name.startswith("if-")]
    assert content(s3_bucket, "landing/data/a") == b"lines"


@pytest.mark.parametrize("condition", [None, IfAbsent()])
def test_a_big_object_goes_up_in_parts(s3_bucket: S3Bucket, condition: Condition) -> None:
    store = S3Storage(s3_bucket.name, single_put_bytes=5 * MIB, part_bytes=5 * MIB)
    data = b"".join(number.to_bytes(4, "big") for number in range(3 * MIB))
    etag = store.put("key", body_of(data), condition)
    found = store.stat("key")
    assert found is not None
    assert (found.size, found.etag, found.sha256) == (12 * MIB, etag, None)
    assert content(s3_bucket, "key") == data


def test_conditions_hold_for_parts_too(s3_bucket: S3Bucket) -> None:
    store = S3Storage(s3_bucket.name, single_put_bytes=5 * MIB, part_bytes=5 * MIB)
    etag = store.put("key", body_of(b"small"))
    big = body_of(bytes(6 * MIB))
    for condition in (IfAbsent(), IfMatch('"00000000000000000000000000000000"')):
        with pytest.raises(ConditionFailed):
            store.put("key", big, condition)
    assert content(s3_bucket, "key") == b"small"
    store.put("key", big, IfMatch(etag))
    assert content(s3_bucket, "key") == bytes(6 * MIB)


def test_a_wrong_sha256_over_many_parts_is_refused_before_anything_shows(s3_bucket: S3Bucket) -> None:
    store = S3Storage(s3_bucket.name, single_put_bytes=5 * MIB, part_bytes=5 * MIB)
    data = bytes(6 * MIB)
    with pytest.raises(StorageUnavailable, match="announced"):
        store.put("key", Body(io.BytesIO(data), len(data), hashlib.sha256(b"").hexdigest()))
    assert keys(s3_bucket) == []


def test_a_part_damaged_on_the_way_is_refused_by_the_server(proxy: S3Proxy, s3_bucket: S3Bucket) -> None:
    def damaged(seen: fault.Seen, forward: fault.Forward) -> fault.Answer:
        if seen.method == "PUT":
            # the signature is of the body over plain http; so it is the server that finds either
            seen = fault.Seen(seen.method, seen.path, seen.headers, b"!" + seen.body[1:])
        return forward(seen)

    proxy.always = damaged
    for single in (5 * MIB, 50 * MIB):
        with pytest.raises(StorageError):
            S3Storage(s3_bucket.name, single_put_bytes=single, part_bytes=5 * MIB).put("key", body_of(bytes(6 * MIB)))
    assert keys(s3_bucket) == []


@pytest.mark.parametrize("single_put_bytes", [MIB, 1024 * MIB])
def test_memory_stays_flat(s3_bucket: S3Bucket, single_put_bytes: int) -> None:
    command = [sys.executable, "-c", PUT_BIG, s3_bucket.name, str(single_put_bytes)]
    grown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert int(grown) < 24, "MiB for a body of 200"
    head = s3_bucket.client.head_object(Bucket=s3_bucket.name, Key="big")
    assert head["ContentLength"] == 200 * MIB


def test_check_wants_conditions_and_sweeps_up(
    moto_bucket: S3Bucket, moto_server: str, make_proxy: MakeProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = make_proxy(moto_server)
    use(monkeypatch, proxy.endpoint)
    proxy.always = fault.ignored_conditions  # moto does not verify signatures
    with pytest.raises(NoConditionalWrites, match="--allow-unconditional-writes"):
        open_storage(moto_bucket.url, StorageOptions()).check()
    open_storage(moto_bucket.url, StorageOptions(allow_unconditional=True)).check()
    assert keys(moto_bucket) == []


@pytest.mark.parametrize("header", ["if-match", "if-none-match"])
def test_check_wants_each_kind_of_condition(
    moto_bucket: S3Bucket, moto_server: str, make_proxy: MakeProxy, monkeypatch: pytest.MonkeyPatch, header: str
) -> None:
    def ignored(seen: fault.Seen, forward: fault.Forward) -> fault.Answer:
        kept = {name: value for name, value in seen.headers.items() if name != header}
        return forward(fault.Seen(seen.method, seen.path, kept, seen.body))

    proxy = make_proxy(moto_server)
    use(monkeypatch, proxy.endpoint)
    proxy.always = ignored
    with pytest.raises(NoConditionalWrites, match=f"(?i){header} condition was false"):
        open_storage(moto_bucket.url, StorageOptions()).check()


def test_a_store_that_refuses_conditions_is_used_without_only_when_told_to(proxy: S3Proxy, s3_bucket: S3Bucket) -> None:
    def refused(seen: fault.Seen, forward: fault.Forward) -> fault.Answer | None:
        conditional = any(name.startswith("if-") for name in seen.headers)
        return fault.error(501, "NotImplemented")(seen, forward) if conditional else forward(seen)

    proxy.always = refused
    with pytest.raises(NoConditionalWrites, match="allow_unconditional_writes"):
        open_storage(s3_bucket.url, StorageOptions()).put("key", body_of(b"x"), IfAbsent())
    open_storage(s3_bucket.url, StorageOptions(allow_unconditional=True)).put("key", body_of(b"x"), IfAbsent())
    assert content(s3_bucket, "key") == b"x"


@pytest.mark.parametrize("lost", [fault.no_answer, fault.lost_answer, fault.error(503, "SlowDown")])
def test_what_passes_is_tried_again(store: S3Storage, proxy: S3Proxy, s3_bucket: S3Bucket, lost: fault.Fault) -> None:
    events: list[Event] = []
    proxy.faults += [lost, lost]
    patient(store, events).put("key", body_of(b"x"))
    assert content(s3_bucket, "p/key") == b"x"
    assert len(proxy.seen) == 3
    assert [type(event) for event in events] == [Retried, Retried]
    assert "CANARY" not in repr(events)


def test_boto3_itself_tries_once(store: S3Storage, proxy: S3Proxy) -> None:
    proxy.always = fault.error(503, "SlowDown")
    for use_store in (lambda: store.put("key", body_of(b"x")), lambda: store.get("key"), lambda: store.stat("key")):
        proxy.seen.clear()
        with pytest.raises(StorageUnavailable):
            use_store()
        assert len(proxy.seen) == 1


def test_a_lost_answer_makes_a_conditional_put_unknown_and_reading_back_tells(store: S3Storage, proxy: S3Proxy) -> None:
    proxy.faults += [fault.lost_answer]
    with pytest.raises(OutcomeUnknown):
        patient(store, []).put("head.json", body_of(b"run 1"), IfAbsent())
    assert proxy.asked == ["PUT", "PUT"]
    assert store.get("head.json").data == b"run 1"


def test_a_lost_compare_and_swap_is_unknown_too(store: S3Storage, proxy: S3Proxy) -> None:
    etag = store.put("head.json", body_of(b"run 1"))
    proxy.faults += [fault.lost_answer]
    with pytest.raises(OutcomeUnknown):
        patient(store, []).put("head.json", body_of(b"run 2"), IfMatch(etag))
    assert store.get("head.json").data == b"run 2"


def test_a_conflict_is_tried_again(store: S3Storage, proxy: S3Proxy, s3_bucket: S3Bucket) -> None:
    proxy.faults += [fault.error(409, "ConditionalRequestConflict")]
    patient(store, []).put("key", body_of(b"x"), IfAbsent())
    assert content(s3_bucket, "p/key") == b"x"


def test_an_object_cut_off_while_it_is_read_is_never_taken_for_whole(store: S3Storage, proxy: S3Proxy) -> None:
    data = bytes(range(256)) * 4096 * 4
    store.put("key", body_of(data))
    proxy.faults += [fault.cut_answer, fault.cut_answer, fault.cut_answer]
    with pytest.raises(StorageUnavailable):
        store.get("key")
    with store.open("key") as stream, pytest.raises(StorageUnavailable):
        while stream.read(65536):
            pass
    assert patient(store, []).get("key").data == data


def test_an_object_damaged_on_its_way_back_is_found_out(store: S3Storage, proxy: S3Proxy) -> None:
    def damaged(seen: fault.Seen, forward: fault.Forward) -> fault.Answer:
        answer = forward(seen)
        return fault.Answer(answer.status, answer.headers, b"!" + answer.body[1:])

    store.put("key", body_of(b"water"))
    proxy.faults += [damaged, damaged]
    with pytest.raises(StorageUnavailable, match="FlexibleChecksumError"):
        store.get("key")
    with store.open("key") as stream, pytest.raises(StorageUnavailable, match="FlexibleChecksumError"):
        stream.read()


def test_an_endpoint_that_is_not_there_is_unavailable(s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, f"http://{HOST}:{closed_port()}")
    with pytest.raises(StorageUnavailable, match="EndpointConnectionError") as caught:
        S3Storage(s3_bucket.name).put("key", body_of(b"x"))
    assert "AWS_ENDPOINT_URL_S3" in (caught.value.hint or "")


def test_silence_is_unavailable(s3_bucket: S3Bucket, proxy: S3Proxy) -> None:
    def silent(seen: fault.Seen, forward: fault.Forward) -> None:
        slow.wait(5)

    slow = threading.Event()
    proxy.always = silent
    with pytest.raises(StorageUnavailable, match="ReadTimeoutError"):
        S3Storage(s3_bucket.name, options=StorageOptions(read_timeout=0.2)).get("key")
    slow.set()


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_keys_are_denied_and_not_repeated(
    s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "wrong-CANARY")
    store = open_storage(s3_bucket.url, StorageOptions())
    for attempt in (lambda: store.put("key", body_of(b"x")), lambda: store.get("key"), lambda: store.stat("key")):
        with pytest.raises(StorageDenied) as caught:
            attempt()
        text = str(caught.value)
        assert all(secret not in text for secret in ("CANARY", SECRET_KEY, ACCESS_KEY + " "))


def test_no_keys_are_denied_and_the_error_says_where_they_were_looked_for(
    s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    store = open_storage(s3_bucket.url, StorageOptions())
    for attempt in (store.check, lambda: store.put("key", body_of(b"x"))):
        with pytest.raises(StorageDenied, match="AWS_WEB_IDENTITY_TOKEN_FILE"):
            attempt()


def test_a_service_account_s_token_is_exchanged_for_a_role(
    moto_bucket: S3Bucket, moto_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "token").write_text("a-token")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/extractor")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto_server)
    store = open_storage(moto_bucket.url, StorageOptions())
    store.check()
    store.put("key", body_of(b"x"), IfAbsent())
    assert content(moto_bucket, "key") == b"x"


def test_a_bucket_that_is_not_there_is_named(moto_bucket: S3Bucket) -> None:
    store = open_storage("s3://no-such-bucket/p", StorageOptions())
    for attempt in (lambda: store.put("key", body_of(b"x"), IfAbsent()), lambda: store.get("key")):
        with pytest.raises(StorageError, match="NoSuchBucket") as caught:
            attempt()
        assert not isinstance(caught.value, ObjectMissing | ConditionFailed)
        assert "s3://no-such-bucket/p/key" in str(caught.value)


def test_a_right_that_is_missing_is_denied_and_stat_does_not_call_it_absent(store: S3Storage, proxy: S3Proxy) -> None:
    proxy.always = fault.error(403, "AccessDenied")
    with pytest.raises(StorageDenied, match="s3:PutObject"):
        store.put("key", body_of(b"x"))
    with pytest.raises(StorageDenied, match="s3:ListBucket"):
        store.stat("key")


def test_another_region_is_named(store: S3Storage, proxy: S3Proxy) -> None:
    proxy.always = fault.error(400, "AuthorizationHeaderMalformed")
    with pytest.raises(StorageError, match="AWS_DEFAULT_REGION"):
        store.put("key", body_of(b"x"))
    proxy.always = fault.error(301, "PermanentRedirect", {"x-amz-bucket-region": "us-east-1"})
    with pytest.raises(StorageError, match="AWS_DEFAULT_REGION"):
        store.get("key")


def test_a_check_that_can_not_sweep_up_says_so(store: S3Storage, proxy: S3Proxy) -> None:
    def no_deletes(seen: fault.Seen, forward: fault.Forward) -> fault.Answer | None:
        return fault.error(403, "AccessDenied")(seen, forward) if seen.method == "DELETE" else forward(seen)

    proxy.always = no_deletes
    with pytest.raises(StorageDenied, match="s3:DeleteObject"):
        store.check()
