"""The shape of a landing zone's prefix, as the doctor judges it without a request."""

from __future__ import annotations

import pytest

from floodmark.config import Flags, load
from floodmark.doctor.configuration import check_configuration
from floodmark.doctor.landing_prefix import check_shape, near_prefixes
from floodmark.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "keys"),
    [
        ("s3://moj-reg-prod/landing/hmpps-foo-prod/", "landing/hmpps-foo-prod/data/"),
        ("s3://moj-reg-prod/landing/hmpps-foo-prod", "landing/hmpps-foo-prod/data/"),
        ("s3://moj-reg-dev/landing/foo", "landing/foo/data/"),
        ("s3://moj-reg-other/landing/foo-dev", "landing/foo-dev/data/"),
        ("s3://some-lake/database/", "database/data/"),
        ("s3://some-lake/a/b/c", "a/b/c/data/"),
        ("s3://some-lake", "data/"),
    ],
)
def test_a_prefix_that_fits(url: str, keys: str) -> None:
    found = check_shape("destination", url)
    assert (found.check, found.result, found.found) == ("destination: prefix", "ok", f"keys begin with {keys}")


@pytest.mark.parametrize(
    ("url", "says", "write"),
    [
        ("s3://moj-reg-dev/landing/foo-dev/data/", "landing/foo-dev/data/data/", "s3://moj-reg-dev/landing/foo-dev/ "),
        ("s3://moj-reg-dev/landing/foo-dev/data", "the receiver reads landing/foo-dev/data/", "landing/foo-dev/ "),
        ("s3://some-lake/data", "the receiver reads data/", "s3://some-lake/ "),
        ("s3://moj-reg-dev/landing/foo-dev/*", "holds a *", "Remove it"),
    ],
)
def test_a_prefix_that_nobody_reads_is_a_problem(url: str, says: str, write: str) -> None:
    found = check_shape("deliver moj", url)
    assert (found.check, found.result, found.exit_code) == ("deliver moj: prefix", "problem", ConfigError.exit_code)
    assert says in found.found and write in (found.fix or "")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://moj-reg-dev", "does not begin with landing/"),
        ("s3://moj-reg-dev/hmpps-foo-dev", "does not begin with landing/"),
        ("s3://moj-reg-dev/landing/", "names no stack"),
        ("s3://moj-reg-dev/landing/foo-dev/extra", "extra/ lies deeper"),
        ("s3://moj-reg-dev/landing//foo-dev", "foo-dev/ lies deeper"),
        ("s3://moj-reg-preprod/landing/foo-prod", "moj-reg-preprod is for preprod, and the stack foo-prod"),
        ("s3://moj-reg-dev/landing/foo-preprod/", "moj-reg-dev is for dev, and the stack foo-preprod"),
    ],
)
def test_a_prefix_that_looks_wrong_is_a_warning(url: str, says: str) -> None:
    found = check_shape("destination", url)
    assert found.result == "warning" and says in found.found and "Register My Data" in (found.fix or "")


@pytest.mark.parametrize(
    ("prefix", "near"),
    [
        ("landing/hmpps-foo/", {"landing/foo/", "landing/foo-dev/", "landing/hmpps-foo-dev/"}),
        ("landing/foo-dev/", {"landing/foo/", "landing/hmpps-foo/", "landing/hmpps-foo-dev/"}),
        ("foo-prod/", {"foo/", "foo-dev/", "hmpps-foo/", "hmpps-foo-prod/", "hmpps-foo-dev/"}),
        ("", set()),
    ],
)
def test_the_prefixes_that_are_tried_instead(prefix: str, near: set[str]) -> None:
    found = near_prefixes("moj-reg-dev", prefix)
    assert set(found) == near and len(found) == len(near)


def test_a_key_that_overrides_a_role_is_a_warning() -> None:
    environ = {"FLOODMARK_SOURCE": "sqlite:///a.db", "S3_DESTINATION": "s3://moj-reg-dev/landing/foo-dev"}
    role = {"AWS_ROLE_ARN": "arn:aws:iam::0:role/foo", "AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}

    def warnings(more: dict[str, str]) -> list[str]:
        given = {**environ, **more}
        found = check_configuration(load(Flags(), given), Flags(), given)
        return [one.found for one in found if one.result == "warning"]

    assert warnings(role) == warnings({"AWS_ACCESS_KEY_ID": "AKIA"}) == []
    assert warnings({**role, "AWS_ACCESS_KEY_ID": ""}) == []
    assert warnings({**role, "AWS_ACCESS_KEY_ID": "AKIA"}) == [
        "AWS_ACCESS_KEY_ID overrides the role of the service account (AWS_ROLE_ARN)"
    ]
