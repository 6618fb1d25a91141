"""What Kubernetes makes of rendered objects: its schemas, its rules for pods, a pod's variables, and its API server."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import kubernetes_validate

from fix_tools import tool

Rendered = dict[tuple[str, str], Any]
Secrets = Mapping[str, Mapping[str, str]]

KUBERNETES = ("1.29", "1.37")
OPERATORS = ("ServiceMonitor", "PrometheusRule")  # the Prometheus operator's own kinds
_VOLUMES = {"configMap", "emptyDir", "projected", "secret"}


def require_valid(rendered: Rendered) -> None:
    """Everything is what Kubernetes takes, oldest and newest: no field it does not know, none of a wrong type."""
    for (kind, name), one in rendered.items():
        assert len(name) <= (52 if kind == "CronJob" else 63) and re.fullmatch("[a-z0-9-]+", name)
        if kind not in OPERATORS:
            for version in KUBERNETES:
                kubernetes_validate.validate(one, version, strict=True)


def require_restricted(pod: Any) -> None:
    """The pod is one that the Pod Security Standard `restricted` admits."""
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True and context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    for volume in pod["volumes"]:
        assert set(volume) - {"name"} <= _VOLUMES
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "ports" not in container


def job_of(rendered: Rendered) -> Any:
    """The specification of the CronJob's jobs."""
    (cron,) = [one for (kind, _), one in rendered.items() if kind == "CronJob"]
    return cron["spec"]["jobTemplate"]["spec"]


def container_of(rendered: Rendered) -> Any:
    (container,) = job_of(rendered)["template"]["spec"]["containers"]
    return container


def variables(container: Any) -> dict[str, Any]:
    """What each variable is, or which key of which secret holds it."""
    found = {}
    for one in container["env"]:
        where = one.get("valueFrom", {}).get("secretKeyRef", {})
        found[one["name"]] = one.get("value", (where.get("name"), where.get("key")))
    assert len(found) == len(container["env"])
    return found


def pod_environment(container: Any, secrets: Secrets) -> dict[str, str]:
    """The variables of a running container. A key that no secret has raises KeyError: such a pod does not start."""
    found = variables(container)
    return {name: one if isinstance(one, str) else secrets[one[0]][one[1]] for name, one in found.items()}


_BATCH = {"groupVersion": "batch/v1", "version": "v1"}


def _resource(kind: str) -> dict[str, Any]:
    name = kind.lower()
    return {"name": f"{name}s", "singularName": name, "namespaced": True, "kind": kind, "verbs": ["get"]}


def _resources(version: str, *kinds: str) -> dict[str, Any]:
    found = [_resource(kind) for kind in kinds]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": found}


_DISCOVERY: dict[str, Any] = {
    "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/api/v1": _resources("v1", "ConfigMap", "Secret"),
    "/apis": {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [{"name": "batch", "versions": [_BATCH], "preferredVersion": _BATCH}],
    },
    "/apis/batch/v1": _resources("batch/v1", "Job", "CronJob"),
}


class ApiServer:
    """As much of Kubernetes as `kubectl create job --from` and Helm's lookups ask for, in the namespace `ns`."""

    def __init__(self, rendered: Rendered | None = None, secrets: Secrets | None = None) -> None:
        self.pages = dict(_DISCOVERY)
        for (kind, name), one in (rendered or {}).items():
            self.pages[f"/apis/batch/v1/namespaces/ns/{kind.lower()}s/{name}"] = one
        for name, data in (secrets or {}).items():
            encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
            secret = {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": name, "namespace": "ns"}}
            self.pages[f"/api/v1/namespaces/ns/secrets/{name}"] = {**secret, "data": encoded}
        self._server = HTTPServer(("127.0.0.1", 0), _Handler)
        self._server.pages = self.pages  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> ApiServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        page = self.server.pages.get(self.path.partition("?")[0])  # type: ignore[attr-defined]
        self.send_response(404 if page is None else 200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(page).encode())

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def kubectl(api: ApiServer, command: str, home: Path) -> Any:
    """Run kubectl in the namespace `ns`, and return what it prints."""
    arguments = [*command.split(), "--namespace", "ns", "--output", "json"]
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run([tool("kubectl"), "--server", api.url, *arguments], capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
