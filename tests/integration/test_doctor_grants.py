"""`floodmark doctor` in a landing zone: which prefix the grant covers, asked without a put, on a real S3."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fix_command import Floodmark, keys
from fix_postgres import PgDatabase
from fix_s3_proxy import Answer, Fault, S3Proxy, error
from fix_storage import SERVICE, S3Bucket, S3Server, environment, grant

DENIED = error(403, "AccessDenied")
PUT = ("s3:PutObject", "s3:PutObjectAcl")


@pytest.fixture
def zone(s3_server: S3Server, s3_bucket: S3Bucket) -> S3Bucket:
    name = f"moj-reg-dev-{s3_bucket.name}"
    return S3Bucket(name, s3_server.make_bucket(name))


@pytest.fixture
def job(pg: PgDatabase, s3_server: S3Server, tmp_path: Path) -> Floodmark:
    """A service with the credentials of an IAM user who has no right but the grant's."""
    pg.execute("CREATE TABLE person (id int); INSERT INTO person VALUES (1)")
    return Floodmark(tmp_path / "job", {**environment(s3_server.endpoint, *SERVICE), "FLOODMARK_SOURCE": pg.url})


def told(job: Floodmark, destination: str, code: int) -> dict[str, tuple[str, str, str]]:
    """Result, finding and fix of the checks of the destination."""
    done = job("doctor", "--output", "json", code=code, environment={"S3_DESTINATION": destination})
    found = [one for one in done.json["checks"] if one["check"].startswith("destination")]
    return {one["check"].removeprefix("destination: "): (one["result"], one["found"], one["fix"]) for one in found}


@pytest.mark.parametrize("granted", ["landing/foo-dev/", "landing/foo-dev/data/"])
@pytest.mark.parametrize("ending", ["", "/"])
def test_a_grant_that_fits_is_seen_and_nothing_is_put(
    job: Floodmark, zone: S3Bucket, granted: str, ending: str
) -> None:
    grant(zone, granted, *PUT)
    found = told(job, f"{zone.url}/landing/foo-dev{ending}", 0)
    assert found["prefix"][:2] == ("ok", "keys begin with landing/foo-dev/data/")
    assert found["grant"][:2] == ("ok", f"objects may be put below {zone.url}/landing/foo-dev/data/")
    assert keys(zone) == {} and not zone.client.list_multipart_uploads(Bucket=zone.name).get("Uploads")


def test_a_destination_with_data_at_its_end_is_named_although_the_grant_covers_it(
    job: Floodmark, zone: S3Bucket
) -> None:
    grant(zone, "landing/foo-dev/data/", *PUT)
    found = told(job, f"{zone.url}/landing/foo-dev/data/", 10)
    assert found["prefix"][0] == "problem" and f"Write {zone.url}/landing/foo-dev/ instead" in found["prefix"][2]
    assert found["grant"][0] == "ok"


@pytest.mark.parametrize(
    ("granted", "says"),
    [
        ("landing/hmpps-foo-dev/", "landing/hmpps-foo-dev/"),
        ("landing/foo/", "landing/foo/"),
    ],
)
def test_a_grant_for_another_prefix_is_named(job: Floodmark, zone: S3Bucket, granted: str, says: str) -> None:
    grant(zone, granted, *PUT)
    found = told(job, f"{zone.url}/landing/foo-dev", 13)["grant"]
    assert found[1] == (
        f"the credentials may not put below {zone.url}/landing/foo-dev/data/\nthe grant covers {zone.url}/{says}"
    )
    assert f"arn:aws:s3:::{zone.name}/landing/foo-dev/*" in found[2] and keys(zone) == {}


def test_a_grant_without_its_star_and_one_that_is_not_known(job: Floodmark, zone: S3Bucket) -> None:
    grant(zone, "landing/foo-dev/", *PUT, below="")
    assert "landing/foo-dev/ itself, and nothing below it" in told(job, f"{zone.url}/landing/foo-dev", 13)["grant"][1]
    grant(zone, "elsewhere/", *PUT)
    result, found, fix = told(job, f"{zone.url}/landing/foo-dev", 13)["grant"]
    assert (result, found) == ("problem", f"the credentials may not put below {zone.url}/landing/foo-dev/data/")
    assert "get-caller-identity" in fix and "landing zone's owner" in fix


def test_wrong_credentials_are_a_problem(job: Floodmark, zone: S3Bucket) -> None:
    job.environment["AWS_SECRET_ACCESS_KEY"] = "another"
    result, _, fix = told(job, f"{zone.url}/landing/foo-dev", 13)["grant"]
    assert result == "problem" and "AWS_SECRET_ACCESS_KEY does not belong to the access key" in fix


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (error(503, "SlowDown"), "SlowDown"),
        (lambda seen, forward: Answer(200, {"etag": '"a"', "content-length": "0"}, b""), "does not exist"),
    ],
    ids=["busy", "accepts anything"],
)
def test_a_store_that_gives_no_clear_answer(
    job: Floodmark, zone: S3Bucket, s3_server: S3Server, make_proxy: Callable[[str], S3Proxy], answer: Fault, says: str
) -> None:
    grant(zone, "landing/foo-dev/", *PUT)
    proxy = make_proxy(s3_server.endpoint)
    proxy.always = lambda seen, forward: (answer if seen.method == "PUT" else DENIED)(seen, forward)
    job.environment["AWS_ENDPOINT_URL_S3"] = proxy.endpoint
    result, found, _ = told(job, f"{zone.url}/landing/foo-dev", 0)["grant"]
    assert result == "unknown" and says in found
