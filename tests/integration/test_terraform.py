"""The Terraform module: formatted, parsed, its policies worked out by real terraform, its secret what the chart reads.

The providers' schemas can't be had without Terraform's registry, so nothing here is planned against AWS.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml

from fix_tools import CHART, ROOT, Terraform

MODULE = ROOT / "ops/terraform"
FILES = sorted(MODULE.rglob("*.tf"))


def parsed(text: str) -> dict[str, list[Any]]:
    return hcl2.loads(text)  # type: ignore[no-any-return]


def blocks(kind: str, *files: Path) -> dict[str, Any]:
    """All blocks of a kind with one label, by that label."""
    found: dict[str, Any] = {}
    for file in files:
        for block in parsed(file.read_text(encoding="utf-8")).get(kind, []):
            for label, body in block.items():
                found[label.strip('"')] = body
    return found


def test_it_is_formatted(tmp_path: Path) -> None:
    terraform = Terraform(MODULE, tmp_path)
    assert terraform("fmt", recursive=True, write=False, diff=True)[:2] == (0, "")
    (terraform.folder / "versions.tf").write_text("locals {\na=1\n}\n")
    assert "versions.tf" in terraform("fmt", recursive=True, write=False, diff=True)[1]


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(MODULE)) for file in FILES])
def test_every_file_parses_and_what_one_can_set_or_get_is_described(file: Path) -> None:
    assert parsed(file.read_text(encoding="utf-8"))
    for name, body in {**blocks("variable", file), **blocks("output", file)}.items():
        assert len(body["description"]) > 10, name
        assert "type" in body or "value" in body, name


def test_the_example_sets_what_has_to_be_set_and_nothing_unknown() -> None:
    variables = blocks("variable", *MODULE.glob("*.tf"))
    example = blocks("module", MODULE / "example/analytical-platform.tf")["floodmark"]
    given = {key for key in example if not key.startswith("__")} - {"source"}
    assert given <= set(variables)
    assert {name for name, body in variables.items() if "default" not in body} <= given
    entry = yaml.safe_load((MODULE / "example/config.yaml").read_text(encoding="utf-8"))
    assert entry["uploader_arns"] == ["arn:aws:iam::000000000000:role/case-notes-dev-floodmark"]


def outputs_of(terraform: Terraform, **given: str) -> dict[str, Any]:
    assert terraform("init")[0] == 0
    code, value, error = terraform("apply", vars=given)
    assert code == 0, (value, error)
    return {name: one["value"] for name, one in terraform("output")[1].items() if one["value"] is not None}


def worked_out(terraform: Terraform, **given: str) -> dict[str, Any]:
    return {name: json.loads(text) for name, text in outputs_of(terraform, **given).items()}


def test_the_policies_allow_what_a_run_does_and_no_more(tmp_path: Path) -> None:
    terraform = Terraform(MODULE / "policies", tmp_path)
    policies = worked_out(terraform, destination="s3://moj-reg-dev/landing/svc-dev/", state_bucket="svc-state")
    put, listing = policies["landing"]["Statement"]
    assert set(put["Action"]) == {"s3:PutObject", "s3:PutObjectAcl", "s3:AbortMultipartUpload"}
    assert put["Resource"] == "arn:aws:s3:::moj-reg-dev/landing/svc-dev/*"
    assert (listing["Action"], listing["Resource"]) == (["s3:ListBucket"], "arn:aws:s3:::moj-reg-dev")
    assert listing["Condition"] == {"StringLike": {"s3:prefix": ["landing/svc-dev/*"]}}
    keep, tell = policies["state"]["Statement"]
    assert keep["Resource"] == "arn:aws:s3:::svc-state/*" and "Condition" not in tell
    assert set(keep["Action"]) == {"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"}
    every = [one for policy in policies.values() for one in policy["Statement"]]
    assert {one["Effect"] for one in every} == {"Allow"}
    assert not [action for one in every for action in one["Action"] if "*" in action]


def test_without_a_state_bucket_there_is_no_policy_for_one_and_no_one_gets_a_whole_bucket(tmp_path: Path) -> None:
    terraform = Terraform(MODULE / "policies", tmp_path)
    assert set(worked_out(terraform, destination="s3://lake/svc")) == {"landing"}
    for whole in ("s3://lake/", "lake/svc"):
        code, value, error = terraform("apply", vars={"destination": whole})
        assert code != 0 and "regex" in str(value) + error


DESTINATION = "s3://moj-reg-dev/landing/svc-dev/"
ROLE = {
    "arn": "arn:aws:iam::000000000000:role/svc-dev-floodmark",
    "role_name": "svc-dev-floodmark",
    "service_account_name": "floodmark",
}
USER = {
    "arn": "arn:aws:iam::000000000000:user/system/floodmark/svc-dev-floodmark",
    "access_key_id": "AKIAEXAMPLE",
    "secret_access_key": "not-a-secret-of-anyone",
}


def test_the_secret_has_the_keys_of_a_user_or_of_a_role_and_none_that_is_empty(tmp_path: Path) -> None:
    """With an empty access key in the secret, a pod that reads it would have no credentials in place of its role's."""
    terraform = Terraform(MODULE / "secret", tmp_path)
    user = outputs_of(terraform, destination=DESTINATION, state_url="s3://svc-state/svc/", **USER)["data"]
    arn = dict.fromkeys(("user_arn", "arn_user"), USER["arn"])
    keys = {name: USER[name] for name in ("access_key_id", "secret_access_key")}
    assert user == {"destination_bucket": DESTINATION, "state_url": "s3://svc-state/svc/", **arn, **keys}
    role = outputs_of(terraform, destination=DESTINATION, **ROLE)["data"]
    arn = dict.fromkeys(("user_arn", "arn_user", "rolearn"), ROLE["arn"])
    assert role == {
        "destination_bucket": DESTINATION,
        "role": ROLE["role_name"],
        "serviceaccount": ROLE["service_account_name"],
        **arn,
    }
    assert outputs_of(terraform, destination=DESTINATION)["data"] == {"destination_bucket": DESTINATION}
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    read = {values[name] for name in values if name.endswith("SecretKey") and not name.startswith("data")}
    assert read == {"destination_bucket", "state_url", "access_key_id", "secret_access_key", "serviceaccount"}
    assert read <= {*user, *role}


def test_the_module_gives_its_secret_what_it_created_or_was_given() -> None:
    (call,) = blocks("module", MODULE / "secret.tf").values()
    assert set(blocks("variable", MODULE / "secret/main.tf")) == {key for key in call if not key.startswith("__")} - {
        "source"
    }
    default = blocks("variable", MODULE / "variables.tf")["secret_name"]["default"]
    assert default.strip('"') == "analytical-platform-reporting-s3-bucket"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, None),
        ({"destination": f"{DESTINATION}data/"}, "without data/ at its end"),
        ({"destination": "moj-reg-dev/landing/svc-dev/"}, "s3://bucket/prefix/"),
        ({"identity": "role"}, "irsa, user or policies"),
        ({"role": {"name": "svc", "arn": "svc", "service_account_name": "svc"}}, "the ARN of a role"),
    ],
)
def test_a_mistaken_value_is_named(given: dict[str, Any], says: str | None, tmp_path: Path) -> None:
    """The variables without the rest of the module need no provider."""
    (tmp_path / "only").mkdir()
    (tmp_path / "only/variables.tf").write_text((MODULE / "variables.tf").read_text(encoding="utf-8"))
    terraform = Terraform(tmp_path / "only", tmp_path)
    assert terraform("init")[0] == 0
    values = {"name": "svc-dev", "namespace": "svc-dev", "destination": DESTINATION, **given}
    (terraform.folder / "values.tfvars.json").write_text(json.dumps(values))
    code, value, error = terraform("plan", var_files=[str(terraform.folder / "values.tfvars.json")])
    assert (code == 0) is (says is None) and (says or "") in str(value) + error


def test_every_exception_from_a_check_is_explained() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in FILES)
    skips = re.findall(r"#checkov:skip=(\w+)(.*)", text)
    assert skips and all(re.fullmatch(r":.{20,}", reason) for _, reason in skips)
