"""docs/analytical-platform.md, step by step: the secrets that services have, the template and the chart that read them,
and the image's entry point with the variables that its pod then has, on real servers."""

from __future__ import annotations

import itertools
import re
import shutil
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml
from msgspec import Struct

from fix_command import Floodmark, keys
from fix_container import Container
from fix_kubernetes import (
    ApiServer,
    Rendered,
    Secrets,
    container_of,
    job_of,
    kubectl,
    pod_environment,
    require_restricted,
    require_valid,
    variables,
)
from fix_mariadb import MyDatabase
from fix_postgres import PgDatabase
from fix_storage import REGION, SERVICE, S3Bucket, S3Server, client, environment, grant
from fix_tools import CHART, ROOT, Helm, Terraform
from fix_tunnel import Tunnel
from floodmark import layout
from floodmark.doctor.landing_prefix import check_shape

PAGE = (ROOT / "docs/analytical-platform.md").read_text(encoding="utf-8")
TEMPLATE = ROOT / "ops/kubernetes/data-extractor-job.yaml"
EXAMPLE = ROOT / "ops/terraform/example"
SECRET = "analytical-platform-reporting-s3-bucket"
ROLE_SECRET = "analytical-platform-reporting-s3-irsa"
DATABASE = {"rds_instance_address": "127.0.0.1", "database_username": "postgres", "database_password": "not looked at"}
NEEDED: dict[str, Any] = {
    "enabled": True,
    "databaseSecretName": "rds-instance-output",
    "image": {"repository": "registry.example.org/floodmark"},
}
_numbers = itertools.count(1)


def section(title: str) -> str:
    """A section of the page, up to the next one of the same or a higher level."""
    return re.split(rf"^##+ {re.escape(title)}$", PAGE, flags=re.MULTILINE)[1].split("\n## ")[0]


def blocks(text: str, language: str) -> list[Any]:
    found = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return [yaml.safe_load(block) for block in found] if language == "yaml" else found


def first_cells(text: str, head: str) -> set[str]:
    """What the first column of the table with this head names in backquotes."""
    rows = text.split(f"| {head} |")[1].split("\n\n")[0].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A service's own chart, with the template as it is copied into it."""
    return make_app(tmp_path / "app")


def make_app(folder: Path, *, template: bool = True, chart_too: bool = False) -> Path:
    (folder / "templates").mkdir(parents=True)
    if template:
        shutil.copy(TEMPLATE, folder / "templates")
    chart: dict[str, Any] = {"apiVersion": "v2", "name": "case-notes", "version": "1.0.0"}
    if chart_too:
        shutil.copytree(CHART, folder / "charts/floodmark")
        version = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["version"]
        chart["dependencies"] = [{"name": "floodmark", "version": version, "alias": "dataExtractor"}]
    (folder / "Chart.yaml").write_text(yaml.safe_dump(chart))
    return folder


class TestStep1:
    """analytical-platform.tf"""

    def test_the_blocks_are_formatted_and_set_what_the_module_takes(self, tmp_path: Path) -> None:
        (block,) = blocks(section("Step 1: analytical-platform.tf"), "hcl")
        (tmp_path / "page").mkdir()
        (tmp_path / "page/analytical-platform.tf").write_text(block)
        assert Terraform(tmp_path / "page", tmp_path)("fmt", check=True, diff=True)[:2] == (0, "")
        called = {name.strip('"'): body for one in hcl2.loads(block)["module"] for name, body in one.items()}
        taken = {
            name.strip('"'): body
            for one in hcl2.loads((ROOT / "ops/terraform/variables.tf").read_text(encoding="utf-8"))["variable"]
            for name, body in one.items()
        }
        given = {name for name in called["floodmark"] if not name.startswith("__")} - {"source"}
        assert {name for name, body in taken.items() if "default" not in body} <= given <= set(taken)
        assert set(called["floodmark"]["role"]) == {"name", "arn", "service_account_name"}

    def test_the_table_names_every_key_of_the_secret(self) -> None:
        module = (ROOT / "ops/terraform/secret/main.tf").read_text(encoding="utf-8")
        (keys,) = (one["keys"] for one in hcl2.loads(module)["locals"] if "keys" in one)
        assert first_cells(PAGE, "key of the secret") == {name.strip('"') for name in keys if "__" not in name}


class Kind(Struct, frozen=True):
    """What a service has: its secrets, without the destination, and the values that the page gives for them."""

    secrets: Secrets
    values: Mapping[str, Any]
    holder: str = SECRET  # of the destination


def kinds() -> Iterator[tuple[str, Kind]]:
    """Every kind of secret that public services have, with the page's values for it in the page's order."""
    user = {"access_key_id": SERVICE[0], "secret_access_key": SERVICE[1]}
    role = {"role": "case-notes-dev", "serviceaccount": "case-notes-dev-to-ap-s3"}
    arn = "arn:aws:iam::000000000000:role/case-notes-dev"
    told = [one["dataExtractor"] for one in blocks(section("Step 2: data-extractor-job.yaml"), "yaml")]
    one_user, one_role, two = told[2:5]
    yield "user_arn", Kind({SECRET: {"user_arn": "arn:aws:iam::000000000000:user/x", **user}}, {})
    yield "arn_user", Kind({SECRET: {"arn_user": "arn:aws:iam::000000000000:user/x", **user}}, one_user)
    yield "role", Kind({ROLE_SECRET: {**role, "rolearn": arn}}, one_role, ROLE_SECRET)
    yield "two", Kind({SECRET: {"user_arn": arn, **user}, "to-ap-s3-irsa": role}, two)


KINDS = dict(kinds())


class Namespace:
    """A service's namespace: its secrets, its rendered job, and a pod of it."""

    def __init__(self, kind: Kind, database: PgDatabase, destination: str, folder: Path) -> None:
        rds = {**DATABASE, "database_name": database.name, "database_username": database.superuser}
        self.secrets: dict[str, Mapping[str, str]] = {**kind.secrets, "rds-instance-output": rds}
        self.secrets[kind.holder] = {**kind.secrets[kind.holder], "destination_bucket": destination}
        self.values = {**NEEDED, **kind.values}
        self.port, self.folder = database.server.port, folder

    def pod(self, rendered: Rendered, more: Mapping[str, str]) -> Container:
        """The container, with what the cluster and the test add to its variables."""
        found = pod_environment(container_of(rendered), self.secrets)
        return Container(self.folder / "job", {**more, **found, "PGPORT": str(self.port)})


@pytest.fixture
def service(pg: PgDatabase) -> PgDatabase:
    pg.execute("CREATE TABLE person (id int); INSERT INTO person VALUES (1), (2); CREATE SCHEMA a; CREATE TABLE a.b ()")
    return pg


def landed(zone: S3Bucket, stack: str, service: PgDatabase) -> bool:
    """The table lies where Register My Data reads, and nothing lies anywhere else."""
    place = rf"landing/{stack}/data/database_name={service.name}_public/table_name=person"
    (key,) = [key for key in keys(zone) if f"/{stack}" in key]
    found = re.fullmatch(rf"{place}/extraction_timestamp=(\d{{14}}Z)/person-00000\.jsonl", key)
    return found is not None and layout.timestamp_moment(found[1]).year > 2000


class TestStep2:
    """data-extractor-job.yaml"""

    @pytest.mark.parametrize("values", [None, {}, {"dataExtractor": None}, {"dataExtractor": {"enabled": False}}])
    def test_it_is_off_by_default(self, helm: Helm, app: Path, values: dict[str, Any] | None) -> None:
        assert helm.render(values or {}, app) == {}
        assert "[ERROR]" not in helm("lint", app, "--strict")

    def test_the_page_s_values_turn_it_on(self, helm: Helm, app: Path) -> None:
        general, enabled = blocks(section("Step 2: data-extractor-job.yaml"), "yaml")[:2]
        assert enabled == {"dataExtractor": {"enabled": True}} and "enabled" not in general["dataExtractor"]
        rendered = helm.render({"dataExtractor": {**general["dataExtractor"], "enabled": True}}, app)
        require_valid(rendered)
        assert list(rendered) == [("CronJob", "svc-data-extractor")]
        assert variables(container_of(rendered)) == {
            "PGHOST": ("rds-read-replica-output", "rds_instance_address"),
            "PGDATABASE": ("rds-instance-output", "database_name"),
            "PGUSER": ("rds-instance-output", "database_username"),
            "PGPASSWORD": ("rds-instance-output", "database_password"),
            "S3_DESTINATION": (SECRET, "destination_bucket"),
            "AWS_DEFAULT_REGION": "eu-west-2",
            "FLOODMARK_STATE": (SECRET, "state_url"),
            "AWS_ACCESS_KEY_ID": (SECRET, "access_key_id"),
            "AWS_SECRET_ACCESS_KEY": (SECRET, "secret_access_key"),
        }

    def test_the_page_s_values_for_mariadb(self, helm: Helm, app: Path, my: MyDatabase, tmp_path: Path) -> None:
        """A variable can be made of others only if they come before it. The port and the CA are this server's here."""
        my.execute("CREATE TABLE person (id int PRIMARY KEY)", "INSERT INTO person VALUES (1)")
        my.role("reader", f"SELECT ON `{my.name}`.*", password="a p@ss/word")
        values = blocks(section("Step 2: data-extractor-job.yaml"), "yaml")[5]["dataExtractor"]
        rendered = helm.render({"dataExtractor": {**NEEDED, **values}}, app)
        require_valid(rendered)
        keys_of = {"database_name": my.name, "database_username": "reader", "database_password": "a p@ss/word"}
        user = {"access_key_id": "a", "secret_access_key": "b", "destination_bucket": str(tmp_path / "to")}
        secrets = {values["databaseSecretName"]: {**DATABASE, **keys_of}, SECRET: user}
        given: dict[str, str] = {}
        for name, value in pod_environment(container_of(rendered), secrets).items():  # in their order
            given[name] = re.sub(r"\$\((\w+)\)", lambda found: given[found[1]], value)
        url, query = given["FLOODMARK_SOURCE"].split("?")
        assert url == f"mariadb://reader@127.0.0.1:3306/{my.name}" and query == "ssl_ca=/opt/floodmark/authorities.pem"
        here = {"FLOODMARK_SOURCE": url.replace(":3306", f":{my.server.port}")}
        job = Floodmark(tmp_path / "job", {**given, **here})
        assert "first_run" in job("plan").out

    def test_a_long_release_s_name_fits(self, helm: Helm, app: Path) -> None:
        file = helm.values({"dataExtractor": {**NEEDED, "config": {"detect": "exact"}}})
        text = helm("template", "r" * 53, app, "--namespace", "ns", "--values", file)
        found = {one["kind"]: one["metadata"]["name"] for one in yaml.safe_load_all(text)}
        assert found["CronJob"] == found["ConfigMap"] == f"{'r' * 37}-data-extractor" and len(found["CronJob"]) == 52

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({"databaseSecretName": ""}, "dataExtractor.databaseSecretName is required"),
            ({"image": {"repository": ""}}, "dataExtractor.image.repository is required"),
            ({"databaseSecertName": "x"}, "dataExtractor.databaseSecertName is no value of data-extractor-job.yaml"),
            ({"enabled": False, "exporter": {}}, "dataExtractor.exporter is no value"),
        ],
    )
    def test_a_mistake_is_named(self, helm: Helm, app: Path, values: dict[str, Any], says: str) -> None:
        file = helm.values({"dataExtractor": {**NEEDED, **values}})
        assert says in helm("template", "svc", app, "--values", file, code=1)

    def test_the_page_names_every_value_and_the_tag_is_of_this_version(self) -> None:
        known = set(re.findall(r'^ {6}"(\w+)" ', TEMPLATE.read_text(encoding="utf-8"), re.MULTILINE))
        values = first_cells(section("Step 2: data-extractor-job.yaml"), "value")
        assert values == known and len(known) > 10
        version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
        assert f'"tag" "{version}"' in TEMPLATE.read_text(encoding="utf-8")

    @pytest.mark.parametrize(
        "more",
        [
            {"awsAccessKeySecretName": SECRET},
            {
                "serviceAccountName": "case-notes-dev-to-ap-s3",
                "cronJobSchedule": "*/5 * * * *",
                "timeZone": "Europe/London",
                "databaseReplicaSecretName": "replica",
                "stateUrl": "s3://own-state/svc",
                "args": ["run", "--full"],
                "config": {"detect": "exact"},
                "extraEnv": [{"name": "FLOODMARK_MASK_KEY", "value": "k"}],
                "httpsProxy": "http://proxy:3128",
                "noProxy": ".svc",
                "resources": {"limits": {"memory": "1Gi"}},
            },
            {"awsAccessKeySecretName": SECRET, "stateSecretName": SECRET, "args": "extract_table_names.py && x.sh"},
        ],
        ids=["user", "everything", "the old line"],
    )
    def test_the_chart_under_the_alias_makes_the_same_pod_of_the_same_values(
        self, helm: Helm, app: Path, tmp_path: Path, more: dict[str, Any]
    ) -> None:
        values = {
            "dataExtractor": {"cronJobSchedule": "0 2 * * *", "destinationS3SecretName": SECRET, **NEEDED, **more}
        }
        ours = helm.render(values, app)
        theirs = helm.render(values, make_app(tmp_path / "alias", template=False, chart_too=True))
        require_valid(ours | theirs)
        require_restricted(job_of(ours)["template"]["spec"])
        assert comparable(ours) == comparable(theirs)

    def test_both_in_one_chart_would_read_the_database_twice(self, helm: Helm, tmp_path: Path) -> None:
        values = helm.values(
            {"dataExtractor": {**NEEDED, "serviceAccountName": "a", "destinationS3SecretName": SECRET}}
        )
        app = make_app(tmp_path / "both", chart_too=True)
        assert "remove one of them" in helm("template", "svc", app, "--values", values, code=1)

    def test_the_page_s_values_for_the_chart(self, helm: Helm, tmp_path: Path) -> None:
        (more,) = blocks(section("The chart instead of the template"), "yaml")
        app = make_app(tmp_path / "alias", template=False, chart_too=True)
        rendered = helm.render({"dataExtractor": {**NEEDED, **more["dataExtractor"]}}, app)
        assert list(rendered) == [("CronJob", "svc-floodmark")]
        assert variables(container_of(rendered))["AWS_ACCESS_KEY_ID"] == (SECRET, "access_key_id")

    def test_it_is_run_again_with_kubectl(self, helm: Helm, app: Path, tmp_path: Path) -> None:
        rendered = helm.render({"dataExtractor": NEEDED}, app)
        (command,) = re.findall(r"^    kubectl (create job floodmark-now .*)$", PAGE, re.MULTILINE)
        command = command.replace("case-notes-data-extractor", "svc-data-extractor")
        with ApiServer(rendered) as api:
            job = kubectl(api, f"{command} --dry-run=client", tmp_path)
        assert job["metadata"]["name"] == "floodmark-now"
        assert job["spec"]["template"]["spec"]["containers"] == job_of(rendered)["template"]["spec"]["containers"]

    @pytest.mark.parametrize(
        ("kind", "granted", "ending"),
        [("user_arn", "", "/"), ("user_arn", "data/", ""), ("arn_user", "", ""), ("arn_user", "data/", "/")],
    )
    def test_with_a_user_s_key_the_data_lands_where_the_grant_allows(
        self,
        helm: Helm,
        app: Path,
        service: PgDatabase,
        s3_server: S3Server,
        tmp_path: Path,
        kind: str,
        granted: str,
        ending: str,
    ) -> None:
        name = f"moj-reg-step-two-{next(_numbers)}"
        zone = S3Bucket(name, s3_server.make_bucket(name))
        grant(zone, f"landing/case-notes-dev/{granted}", "s3:PutObject", "s3:PutObjectAcl")
        ours = Namespace(KINDS[kind], service, f"{zone.url}/landing/case-notes-dev{ending}", tmp_path)
        rendered = helm.render({"dataExtractor": ours.values}, app)
        there = environment(s3_server.endpoint, "no", "key")
        pod = ours.pod(rendered, there)
        done = pod("run")
        assert landed(zone, "case-notes-dev", service), done.err
        told = Floodmark(pod.folder, pod.environment)("doctor").out
        assert re.search(r"^ok +destination: grant ", told, re.MULTILINE), told

    @pytest.mark.parametrize("kind", ["role", "two"])
    def test_with_a_role_the_data_lands_through_the_namespace_s_proxy(
        self,
        helm: Helm,
        app: Path,
        service: PgDatabase,
        moto_server: str,
        make_tunnel: Callable[[str], Tunnel],
        tmp_path: Path,
        kind: str,
    ) -> None:
        """Without any address of the test's own: the proxy is asked for Amazon's names, those of the page."""
        tunnel, stack = make_tunnel(moto_server), f"case-notes-{next(_numbers)}-dev"
        zone = S3Bucket("moj-reg-dev", moto_bucket(moto_server, "moj-reg-dev"))
        state = S3Bucket("case-notes-dev-floodmark-state", moto_bucket(moto_server, "case-notes-dev-floodmark-state"))
        ours = Namespace(KINDS[kind], service, f"{zone.url}/landing/{stack}/", tmp_path)
        ours.values |= {"httpsProxy": f"http://{tunnel.place}", "stateUrl": f"{state.url}/{stack}"}
        rendered = helm.render({"dataExtractor": ours.values}, app)
        account = job_of(rendered)["template"]["spec"]["serviceAccountName"]
        assert account in [one.get("serviceaccount") for one in ours.secrets.values()]
        assert not [name for name in variables(container_of(rendered)) if name.startswith("AWS_") and "KEY" in name]
        pod = ours.pod(rendered, injected(tmp_path, tunnel))
        done = pod("run")
        assert landed(zone, stack, service), done.err
        told = Floodmark(pod.folder, pod.environment)("doctor").out
        assert re.search(r"^ok +destination: prefix ", told, re.MULTILINE), told
        assert set(tunnel.asked) == {f"{host}:443" for host in amazon_hosts(state.name)}


class TestStep3:
    """config.yaml"""

    def test_the_page_and_the_example_assume_the_same_keys_and_say_so(self) -> None:
        text = (EXAMPLE / "config.yaml").read_text(encoding="utf-8")
        entry, told = yaml.safe_load(text), section("Step 3: config.yaml")
        assert first_cells(told, "assumed key") == set(entry)
        for one in (text.replace("\n# ", " "), told.replace("\n", " ")):
            assert "not public" in one and "assumed" in one and "Take their names" in one

    def test_the_example_s_entry_fits_the_example_s_destination(self) -> None:
        entry = yaml.safe_load((EXAMPLE / "config.yaml").read_text(encoding="utf-8"))
        terraform = (EXAMPLE / "analytical-platform.tf").read_text(encoding="utf-8")
        (place,) = re.findall(r'^ *destination = "(.*)"$', terraform, re.MULTILINE)
        place = place.replace("${var.namespace}", entry["stack"])
        assert place == f"s3://moj-reg-{entry['environment']}/landing/{entry['stack']}/"
        assert check_shape("destination", place).result == "ok"
        assert all(one.endswith(f":role/{entry['stack']}-floodmark") for one in entry["uploader_arns"])


def amazon_hosts(state: str) -> set[str]:
    """The page's hosts that belong to Amazon, for a job in the environment dev."""
    found = first_cells(section("Egress and proxy"), "host")
    return {one.replace("<environment>", "dev").replace("<state bucket>", state) for one in found}


class TestEgress:
    """Network policies and the proxy."""

    def test_the_page_s_blocks_are_about_the_same_job_and_proxy(self, helm: Helm, app: Path) -> None:
        policy, proxy, ours = blocks(section("Egress and proxy"), "yaml")
        values = helm.values({"dataExtractor": {**NEEDED, **ours["dataExtractor"]}})
        (cron,) = yaml.safe_load_all(helm("template", "case-notes", app, "--values", values))
        label, name = re.fullmatch(r"(\S+) == '(\S+)'", policy["spec"]["selector"]).groups()  # type: ignore[union-attr]
        assert cron["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"][label] == name
        proxy = proxy["envoy-forward-proxy"]
        ports = {port for one in policy["spec"]["egress"] for port in one["destination"]["ports"]}
        assert ports == {5432, 3128, 53}
        assert ours["dataExtractor"]["httpsProxy"] == f"http://{proxy['fullnameOverride']}:3128"
        assert {*proxy["allowedHosts"]["exact"], "sts.eu-west-2.amazonaws.com"} == amazon_hosts(
            "case-notes-dev-floodmark-state"
        )

    @pytest.fixture
    def job(self, service: PgDatabase, moto_server: str, tunnel: Tunnel, tmp_path: Path) -> Floodmark:
        moto_bucket(moto_server, "moj-reg-dev")
        place = {"FLOODMARK_SOURCE": service.url, "S3_DESTINATION": "s3://moj-reg-dev/landing/egress-dev"}
        more = {"AWS_DEFAULT_REGION": REGION, **injected(tmp_path, tunnel), **place}
        made = Floodmark(tmp_path / "job", more)
        made.hurried = True
        return made

    @pytest.fixture
    def tunnel(self, moto_server: str, make_tunnel: Callable[[str], Tunnel]) -> Tunnel:
        return make_tunnel(moto_server)

    @pytest.mark.parametrize("host", ["moj-reg-dev.s3.eu-west-2.amazonaws.com", "sts.eu-west-2.amazonaws.com"])
    def test_a_host_that_the_proxy_refuses_is_named(self, job: Floodmark, tunnel: Tunnel, host: str) -> None:
        job.environment["HTTPS_PROXY"] = f"http://{tunnel.place}"
        tunnel.refused.add(host)
        done = job("run", code=13)
        assert "ProxyConnectionError" in done.err and "HTTPS_PROXY" in done.err
        assert {one.rpartition(":")[0] for one in tunnel.asked} >= {host}

    def test_a_host_in_no_proxy_is_connected_to_directly(self, job: Floodmark, tunnel: Tunnel) -> None:
        """At a proxy that does not exist."""
        job.environment |= {"HTTPS_PROXY": "http://127.0.0.1:1", "AWS_ENDPOINT_URL": f"https://{tunnel.place}"}
        assert "ProxyConnectionError" in job("run", code=13).err
        job.environment["NO_PROXY"] = ".svc,127.0.0.1"
        job("run")
        assert tunnel.asked == []


def comparable(rendered: Rendered) -> Any:
    """The CronJob's specification and the content of floodmark.yaml, without names and labels."""
    (cron,) = [one["spec"] for (kind, _), one in rendered.items() if kind == "CronJob"]
    job = {**cron["jobTemplate"]["spec"]}
    pod = {**job.pop("template")["spec"]}
    pod["volumes"] = [{**one, **({"configMap": "named"} if "configMap" in one else {})} for one in pod["volumes"]]
    files = [one["data"] for (kind, _), one in rendered.items() if kind == "ConfigMap"]
    schedule = {key: value for key, value in cron.items() if key not in ("jobTemplate", "suspend")}
    assert not cron.get("suspend")
    return schedule, job, pod, files


def moto_bucket(endpoint: str, name: str) -> Any:
    """A client, once the bucket exists: a worker's tests share it, because its name is Amazon's."""
    made = client(endpoint)
    if name not in [one["Name"] for one in made.list_buckets()["Buckets"]]:
        made.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})  # type: ignore[arg-type]
    return made


def injected(folder: Path, tunnel: Tunnel) -> dict[str, str]:
    """What EKS adds to a pod whose service account has a role, and what leads to the test's certificates."""
    token = folder / "token"
    token.write_text("eyJhbGciOiJub25lIn0.e30.")
    return {
        "AWS_ROLE_ARN": "arn:aws:iam::000000000000:role/case-notes-dev",
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CA_BUNDLE": str(tunnel.authority),
    }
