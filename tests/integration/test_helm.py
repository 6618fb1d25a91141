"""The chart, by real helm: every value renders, what is rendered is what Kubernetes takes, slips are named."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from fix_kubernetes import (
    KUBERNETES,
    OPERATORS,
    ApiServer,
    container_of,
    job_of,
    kubectl,
    require_restricted,
    require_valid,
    variables,
)
from fix_tools import CHART, ROOT, Helm
from floodmark import errors
from floodmark.cli.arguments import parser, subcommands

NEEDED: dict[str, Any] = {
    "serviceAccountName": "svc-to-ap",
    "databaseSecretName": "rds-output",
    "destinationS3SecretName": "ap-output",
    "image": {"repository": "registry.example.org/floodmark"},
}
# Helm asks this API server what there is, as it does when it installs.
IN_CLUSTER = ("--dry-run=server", "--disable-openapi-validation", "--kube-apiserver")
OLD = "extract_table_names.py && extract_pg_jsonl_snapshot.py && transfer_local_to_s3.sh"
EVERYTHING: dict[str, Any] = {
    **NEEDED,
    "enabled": True,
    "cronJobSchedule": "*/5 * * * *",
    "timeZone": "Europe/London",
    "awsDefaultRegion": "eu-west-1",
    "destinationS3SecretKey": "place",
    "databaseAddressSecretKey": "address",
    "databaseNameSecretKey": "name",
    "databaseUsernameSecretKey": "user",
    "databasePasswordSecretKey": "password",
    "databaseReplicaSecretName": "rds-replica",
    "databasePort": 5433,
    "databaseSslMode": "verify-full",
    "awsAccessKeySecretName": "ap-output",
    "serviceAccountSecretName": "irsa",
    "serviceAccountSecretKey": "account",
    "stateUrl": "s3://own-state/svc",
    "image": {"repository": "registry.example.org/floodmark", "digest": "sha256:" + "0" * 64, "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "pull"}],
    "args": ["run", "--connections", 2],
    "config": {"tables": {"exclude": ["*.flyway_schema_history"]}, "detect": "exact"},
    "contract": "format: floodmark.contract\nversion: 1\n",
    "extraEnv": [{"name": "FLOODMARK_MASK_KEY", "valueFrom": {"secretKeyRef": {"name": "mask", "key": "key"}}}],
    "extraEnvFrom": [{"secretRef": {"name": "more"}}],
    "httpsProxy": "http://proxy.ns:3128",
    "noProxy": "10.0.0.0/8,.svc",
    "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
    "temporary": {"sizeLimit": "10Gi"},
    "job": {"enabled": True, "args": ["run", "--full"]},
    "engine": {"workers": {"replicas": 3, "threads": 4}, "tlsSecretName": "engine-tls"},
    "exporter": {"enabled": True, "port": 9500},
    "serviceMonitor": {"enabled": True, "labels": {"team": "a"}},
    "prometheusRule": {"enabled": True, "labels": {"prometheus": "ns"}, "alertLabels": {"severity": "my-team"}},
    "networkPolicy": {
        "enabled": True,
        "exporterFrom": [{"namespaceSelector": {"matchLabels": {"component": "monitoring"}}}],
        "egress": [{"ports": [{"port": 443}, {"port": 5433}]}],
    },
    "podAnnotations": {"a": "b"},
    "podLabels": {"c": "d"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
}


def test_lint(helm: Helm) -> None:
    assert "[ERROR]" not in helm("lint", CHART)
    assert "[WARNING]" not in helm("lint", CHART, "--strict", "--values", helm.values(EVERYTHING))


def test_the_least_that_has_to_be_said(helm: Helm) -> None:
    rendered = helm.render(NEEDED)
    require_valid(rendered)
    assert list(rendered) == [("CronJob", "svc-floodmark")]
    spec = rendered["CronJob", "svc-floodmark"]["spec"]
    assert (spec["suspend"], spec["schedule"], spec["concurrencyPolicy"]) == (True, "0 0 * * *", "Forbid")
    assert variables(container_of(rendered)) == {
        "PGHOST": ("rds-output", "rds_instance_address"),
        "PGDATABASE": ("rds-output", "database_name"),
        "PGUSER": ("rds-output", "database_username"),
        "PGPASSWORD": ("rds-output", "database_password"),
        "S3_DESTINATION": ("ap-output", "destination_bucket"),
        "AWS_DEFAULT_REGION": "eu-west-2",
    }


def test_a_job_ends_cleanly_fails_at_once_where_no_retry_helps_and_may_do_little(helm: Helm) -> None:
    job = job_of(helm.render(NEEDED))
    exits, disruption = job["podFailurePolicy"]["rules"]
    hopeless = {errors.UsageError.exit_code, errors.ConfigError.exit_code, errors.VerificationFailed.exit_code}
    assert (exits["action"], set(exits["onExitCodes"]["values"])) == ("FailJob", hopeless)
    assert (exits["onExitCodes"]["containerName"], disruption["action"]) == ("floodmark", "Ignore")
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert (pod["restartPolicy"], container["name"]) == ("Never", "floodmark")
    assert job["activeDeadlineSeconds"] > 4 * 3600 and pod["terminationGracePeriodSeconds"] >= 60
    require_restricted(pod)
    assert {"name": "temporary", "mountPath": "/tmp"} in container["volumeMounts"]
    assert pod["volumes"] == [{"name": "temporary", "emptyDir": {"sizeLimit": "4Gi"}}]


def test_every_value_at_once(helm: Helm) -> None:
    rendered = helm.render(EVERYTHING)
    require_valid(rendered)
    kinds = {"CronJob", "Job", "ConfigMap", "Deployment", "Service", "NetworkPolicy", *OPERATORS}
    assert {kind for kind, _ in rendered} == kinds
    cron = rendered["CronJob", "svc-floodmark"]["spec"]
    assert (cron["suspend"], cron["schedule"], cron["timeZone"]) == (False, "*/5 * * * *", "Europe/London")
    run, once = container_of(rendered), rendered["Job", "svc-floodmark-once"]["spec"]
    assert run["args"] == ["run", "--connections", "2"] and run["image"].endswith("@sha256:" + "0" * 64)
    assert once["template"]["spec"]["containers"][0] | {"args": run["args"]} == run, "one template for both"
    assert once["template"]["spec"]["containers"][0]["args"] == ["run", "--full"]
    assert variables(run) | {"PGPORT": "5433", "FLOODMARK_STATE": "s3://own-state/svc"} == variables(run)
    assert variables(run)["AWS_SECRET_ACCESS_KEY"] == ("ap-output", "secret_access_key")
    file = rendered["ConfigMap", "svc-floodmark"]["data"]["floodmark.yaml"]
    assert yaml.safe_load(file) == EVERYTHING["config"]


def test_the_exporter_sees_the_state_and_nothing_of_the_database(helm: Helm) -> None:
    rendered = helm.render(EVERYTHING)
    exporter = rendered["Deployment", "svc-floodmark-exporter"]["spec"]
    (container,) = exporter["template"]["spec"]["containers"]
    assert container["args"] == ["exporter", "--port", "9500", "--interval", "60"]
    assert not [name for name in variables(container) if name.startswith("PG")]
    labels = exporter["template"]["metadata"]["labels"]
    chosen = [
        exporter["selector"]["matchLabels"],
        rendered["Service", "svc-floodmark-exporter"]["spec"]["selector"],
        rendered["NetworkPolicy", "svc-floodmark-exporter"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(one.items() <= labels.items() for one in chosen)
    run = job_of(rendered)["template"]["metadata"]["labels"]
    assert not any(one.items() <= run.items() for one in chosen)
    closed = rendered["NetworkPolicy", "svc-floodmark"]["spec"]
    assert "ingress" not in closed and closed["podSelector"]["matchLabels"].items() <= run.items()
    monitor = rendered["ServiceMonitor", "svc-floodmark"]["spec"]
    service = rendered["Service", "svc-floodmark-exporter"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]


def test_an_exporter_can_read_many_states(helm: Helm) -> None:
    states = ["s3://lake/cases/_floodmark", "s3://lake/staff/_floodmark"]
    values = {**NEEDED, "exporter": {"enabled": True, "states": states, "stateLabel": True, "report": False}}
    rendered = helm.render(values)
    require_valid(rendered)
    (container,) = rendered["Deployment", "svc-floodmark-exporter"]["spec"]["template"]["spec"]["containers"]
    assert variables(container)["FLOODMARK_STATES"].split() == states
    assert container["args"][-2:] == ["--no-report", "--state-label"]
    assert "FLOODMARK_STATES" not in variables(container_of(rendered))


def test_the_workers_have_the_job_s_credentials_and_the_scheduler_has_no_rights(helm: Helm) -> None:
    rendered = helm.render(EVERYTHING)
    scheduler, worker = (rendered["Deployment", f"svc-floodmark-{name}"]["spec"] for name in ("scheduler", "worker"))
    run, (at_work,) = container_of(rendered), worker["template"]["spec"]["containers"]
    given = {name: value for name, value in variables(run).items() if not name.startswith(("DASK", "FLOODMARK_ENGINE"))}
    assert variables(at_work) | given == variables(at_work)
    account = job_of(rendered)["template"]["spec"]["serviceAccountName"]
    assert worker["template"]["spec"]["serviceAccountName"] == account
    assert variables(run)["FLOODMARK_ENGINE"] == "dask+tls://svc-floodmark-scheduler:8786"
    assert "tls://svc-floodmark-scheduler:8786" in at_work["command"] and "4" in at_work["command"]
    (decides,) = scheduler["template"]["spec"]["containers"]
    assert all(name.startswith("DASK") for name in variables(decides))
    assert "serviceAccountName" not in scheduler["template"]["spec"] and worker["replicas"] == 3
    assert run["image"] == decides["image"] == at_work["image"]


def test_only_the_pods_of_an_engine_reach_each_other(helm: Helm) -> None:
    rendered = helm.render(EVERYTHING)
    allowed = {"scheduler": ["run", "worker"], "worker": ["scheduler"]}
    for name, sources in allowed.items():
        policy = rendered["NetworkPolicy", f"svc-floodmark-{name}"]["spec"]
        pod = rendered["Deployment", f"svc-floodmark-{name}"]["spec"]["template"]["metadata"]["labels"]
        assert policy["podSelector"]["matchLabels"].items() <= pod.items()
        (rule,) = policy["ingress"]
        assert rule["from"][0]["podSelector"]["matchExpressions"][0]["values"] == sources
    assert "app.kubernetes.io/component" in job_of(rendered)["template"]["metadata"]["labels"]
    assert ("NetworkPolicy", "svc-floodmark-engine") in rendered
    own = helm.render({**NEEDED, "engine": {"url": "dask://dask.tools:8786"}})
    assert variables(container_of(own))["FLOODMARK_ENGINE"] == "dask://dask.tools:8786" and len(own) == 1


def test_the_alerts_are_those_of_ops_prometheus(helm: Helm) -> None:
    """A chart reads nothing outside itself, so it has a copy; only labels, links and the group's name are its own."""
    source = ROOT / "ops/prometheus/alerts.yml"
    same = (CHART / "files/alerts.yml").read_bytes() == source.read_bytes()
    assert same, "copy ops/prometheus/alerts.yml to ops/helm/floodmark/files"
    (group,) = yaml.safe_load(source.read_text(encoding="utf-8"))["groups"]
    rules = {**EVERYTHING["prometheusRule"], "runbookUrl": "https://wiki.example.org/"}
    rendered = helm.render({**EVERYTHING, "prometheusRule": rules})
    (shown,) = rendered["PrometheusRule", "svc-floodmark"]["spec"]["groups"]
    assert len(shown["rules"]) == len(group["rules"]) > 5
    for one, other in zip(shown["rules"], group["rules"], strict=True):
        assert (one["alert"], one["expr"]) == (other["alert"], other["expr"])
        assert one["labels"]["severity"] == "my-team"
        assert one["annotations"]["summary"] == other["annotations"]["summary"]
        assert one["annotations"]["runbook_url"].startswith("https://wiki.example.org/runbook.md#")


def matrix() -> list[tuple[str, dict[str, Any]]]:
    """Every value of EVERYTHING alone, so that no value needs another one to render; and more odd ones."""
    lone = [(key, {key: value}) for key, value in EVERYTHING.items() if key not in (*NEEDED, "serviceMonitor")]
    odd: list[tuple[str, dict[str, Any]]] = [
        ("state from a secret", {"stateSecretName": "ap-output"}),
        ("no resources", {"resources": None}),
        ("names", {"fullnameOverride": "n" * 60, "cronJobNameOverride": "c" * 60}),
        ("no history", {"successfulJobsHistoryLimit": 0, "failedJobsHistoryLimit": 0, "backoffLimit": 0}),
        ("long seconds", {"activeDeadlineSeconds": 10_000_000}),
        ("the old chart's", {"dataProductName": "p", "dataPlatformApiAuthSecretName": "s", "saveEventsLog": False}),
    ]
    schedules = ["@daily", "0 2,4 * * 1-5", "15 */6 1 JAN,jul sun", "0 0 ? * *", "  0 5 * * *  "]
    return lone + odd + [(text, {"cronJobSchedule": text}) for text in schedules]


@pytest.mark.parametrize("values", [values for _, values in matrix()], ids=[name for name, _ in matrix()])
def test_each_value_alone(helm: Helm, values: dict[str, Any]) -> None:
    require_valid(helm.render({**NEEDED, **values}))


@pytest.mark.parametrize(
    ("args", "rendered"),
    [
        (OLD, [OLD]),
        (f"  {OLD.replace(' && ', ' &&' + chr(10))}\n", [f"  {OLD.replace(' && ', ' &&' + chr(10))}\n"]),
        ("run, --state, s3://b/p, --exclude, '*.*detail*'", ["run", "--state", "s3://b/p", "--exclude", "*.*detail*"]),
        ("run", ["run"]),
        (["run", "--table", "odd, name"], ["run", "--table", "odd, name"]),
        ("", None),
    ],
)
def test_arguments(helm: Helm, args: object, rendered: list[str] | None) -> None:
    assert container_of(helm.render({**NEEDED, "args": args})).get("args") == rendered


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"serviceAccountName": ""}, "serviceAccountName is required"),
        ({"databaseSecretName": ""}, "databaseSecretName is required"),
        ({"destinationS3SecretName": None}, "destinationS3SecretName is required"),
        ({"image": {"repository": ""}}, "image.repository is required"),
        ({"cronJobSchedule": "'0 5 * * *'"}, "cronJobSchedule contains quotes"),
        ({"cronJobSchedule": '"0 5 * * *"'}, "cronJobSchedule contains quotes"),
        ({"cronJobSchedule": "0 5 * *"}, "cronJobSchedule is not a cron expression"),
        ({"cronJobSchedule": "TZ=UTC 0 5 * * *"}, "timeZone"),
        ({"cronJobSchedule": ""}, "cronJobSchedule is not a cron expression"),
        ({"databaseSecertName": "x"}, "databaseSecertName"),
        ({"image": {"repository": "r", "tag": 1.0}}, "/image/tag"),
        ({"enabled": "yes"}, "/enabled"),
        ({"awsDefaultRegion": "London"}, "/awsDefaultRegion"),
        ({"stateUrl": "s3://a/b", "stateSecretName": "c"}, "stateUrl and stateSecretName contradict"),
        ({"serviceMonitor": {"enabled": True}}, "serviceMonitor.enabled needs exporter.enabled"),
        ({"exporter": {"states": ["lake/cases"]}}, "/exporter/states/0"),
        ({"engine": {"url": "tcp://host:8786"}}, "/engine/url"),
        (
            {"engine": {"url": "dask://host", "workers": {"replicas": 1}}},
            "engine.workers.replicas contradict",
        ),
    ],
)
def test_a_slip_is_named(helm: Helm, values: dict[str, Any], words: str) -> None:
    assert words in helm.refuses({**NEEDED, **values})


def test_as_a_sub_chart_under_the_old_alias(helm: Helm, tmp_path: Path) -> None:
    parent = tmp_path / "service"
    (parent / "templates").mkdir(parents=True)
    dependency = {"name": "floodmark", "version": "0.2.0", "repository": f"file://{CHART}", "alias": "dataExtractor"}
    chart = {"apiVersion": "v2", "name": "service", "version": "1.0.0", "dependencies": [dependency]}
    (parent / "Chart.yaml").write_text(yaml.safe_dump(chart))
    helm("dependency", "update", parent)
    helm("dependency", "build", parent)
    ours = {**EVERYTHING, "job": {"enabled": False}}
    rendered = helm.render({"dataExtractor": ours, "global": {"team": "a"}}, parent)
    require_valid(rendered)
    assert rendered["CronJob", "svc-floodmark"]["spec"]["suspend"] is False
    rendered = helm.render({"dataExtractor": {**NEEDED, "args": OLD}}, parent, "--set", "dataExtractor.enabled=true")
    assert list(rendered) == [("CronJob", "svc-floodmark")]
    assert rendered["CronJob", "svc-floodmark"]["spec"]["suspend"] is False
    assert container_of(rendered)["args"] == [OLD]


def test_the_schema_knows_every_value_and_no_other() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    schema = yaml.safe_load((CHART / "values.schema.json").read_text(encoding="utf-8"))

    def compare(part: Any, whole: Any, path: str) -> None:
        known = whole.get("properties")
        if known is not None:
            assert set(known) - {"global"} == set(part), path
            for key, inner in part.items():
                compare(inner, known[key], f"{path}.{key}")

    compare(values, schema, "")


def test_the_chart_is_of_floodmarks_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert version is not None and chart["version"] == chart["appVersion"] == version[1]


def test_the_notes_name_the_command_for_a_run_now(helm: Helm) -> None:
    said = helm("install", "svc", CHART, "--dry-run=client", "--values", helm.values(NEEDED))
    (command,) = [line for line in said.splitlines() if "kubectl create job" in line]
    assert shlex.split(command)[-2:] == ["--from=cronjob/svc-floodmark", "svc-floodmark-now"]
    assert "No state is set" in said


def test_the_guides_values_render_and_what_it_names_exists(helm: Helm) -> None:
    guide = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)]
    (values,) = [block["dataExtractor"] for block in blocks if "dataExtractor" in block]
    require_valid(helm.render(values))
    known = set(yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")))
    part = guide.split("## 3. Install the chart")[1].split("\n## 4")[0]
    named = re.findall(r"^\| `(\w+)(?:\.\w+)?`", part, re.MULTILINE)
    assert len(named) > 5 and set(named) <= known
    commands = re.findall(r'\["(\w+)"', guide)
    assert {"plan", "run"} <= set(commands) <= {*subcommands(parser()), "sh"}


def test_kubectl_makes_a_job_with_other_arguments_from_the_suspended_cronjob(helm: Helm, tmp_path: Path) -> None:
    """The way of docs/deploy.md, with Python for jq."""
    rendered = helm.render(NEEDED)
    with ApiServer(rendered) as api:
        job = kubectl(api, "create job again --from=cronjob/svc-floodmark --dry-run=client", tmp_path)
    assert job["spec"]["podFailurePolicy"] == job_of(rendered)["podFailurePolicy"]
    job["spec"]["template"]["spec"]["containers"][0]["args"] = ["run", "--full"]
    job = {key: value for key, value in job.items() if key != "status"}
    kubernetes_validate.validate(job, KUBERNETES[1], strict=False)


def test_the_service_account_is_the_one_that_the_secret_in_the_cluster_names(helm: Helm) -> None:
    """A pod can't take its service account from a secret, so Helm looks it up when it installs."""
    values = {**NEEDED, "serviceAccountName": "", "serviceAccountSecretName": "to-ap-s3-irsa"}
    secret = {"role": "svc-dev-floodmark", "serviceaccount": "svc-to-ap", "sa": "another"}

    def account(values: dict[str, Any]) -> str:
        with ApiServer(secrets={"to-ap-s3-irsa": secret}) as api:
            rendered = helm.render(values, CHART, *IN_CLUSTER, api.url)
        require_valid(rendered)
        return job_of(rendered)["template"]["spec"]["serviceAccountName"]  # type: ignore[no-any-return]

    assert account(values) == "svc-to-ap"
    assert account({**values, "serviceAccountSecretKey": "sa"}) == "another"
    assert account({**values, "serviceAccountName": "given"}) == "given"
    assert "Helm can't read the key serviceaccount of the secret to-ap-s3-irsa" in helm.refuses(values)


def test_without_a_role_no_service_account_is_needed(helm: Helm) -> None:
    rendered = helm.render({**NEEDED, "serviceAccountName": "", "awsAccessKeySecretName": "ap-output"})
    require_valid(rendered)
    assert "serviceAccountName" not in job_of(rendered)["template"]["spec"]
    assert variables(container_of(rendered))["AWS_ACCESS_KEY_ID"] == ("ap-output", "access_key_id")


def test_a_replica_gives_its_address_and_the_primary_the_rest(helm: Helm) -> None:
    found = variables(container_of(helm.render({**NEEDED, "databaseReplicaSecretName": "replica"})))
    assert found["PGHOST"] == ("replica", "rds_instance_address")
    assert {found[name][0] for name in ("PGDATABASE", "PGUSER", "PGPASSWORD")} == {"rds-output"}
