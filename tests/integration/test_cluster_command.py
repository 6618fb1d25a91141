"""Commands with --engine, as a person sees them: settings, doctor, TLS, Ctrl-C, and a quiet stderr."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trustme

import fix_dask_acts as acts
from fix_command import Floodmark, asked_to_stop, until
from fix_dask import DaskServers, MakeDask
from fix_ports import closed_port
from fix_postgres import PgDatabase
from floodmark.doctor.engine import check_engine
from floodmark.engine.base import Away
from floodmark.engine.opening import open_engine
from floodmark.errors import ConfigError, EngineError
from floodmark.events import Event, Warned, ignore_event

BIG = "CREATE TABLE big AS SELECT n AS id, repeat('x', 500) AS t FROM generate_series(1, {}) n"


def test_doctor_lists_the_workers(dask_cluster: DaskServers) -> None:
    (finding,) = check_engine(dask_cluster.url)
    assert finding.result == "ok"
    assert finding.found.splitlines()[0] == f"{dask_cluster.url} has 2 workers with 2 threads"
    assert finding.found.count("tcp://127.0.0.1:") == 2


def test_doctor_says_what_is_wrong(make_dask: MakeDask, tmp_path: Path) -> None:
    (refused,) = check_engine(f"dask://127.0.0.1:{closed_port()}")
    assert (refused.result, refused.exit_code) == ("problem", 16) and "refused" in refused.found
    servers = make_dask(0)
    (empty,) = check_engine(servers.url)
    assert (empty.result, empty.exit_code) == ("problem", 16) and "has no worker" in empty.found
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['floodmark'] = None\n")
    servers.add_worker({"PYTHONPATH": str(tmp_path)})
    _, strange = check_engine(servers.url)
    assert (strange.result, strange.exit_code) == ("problem", 10) and "has no Floodmark" in strange.found
    assert list(check_engine(None)) == []


class Certificates:
    """An authority, and a certificate of it for everybody. `tls` are the options of Dask's command line."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        self.authority, self.certificate, self.key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
        authority.cert_pem.write_to_path(self.authority)
        issued.cert_chain_pems[0].write_to_path(self.certificate)
        issued.private_key_pem.write_to_path(self.key)
        self.tls: Sequence[str] = [
            *("--tls-ca-file", str(self.authority)),
            *("--tls-cert", str(self.certificate)),
            *("--tls-key", str(self.key)),
        ]

    def configured(self) -> Any:
        """Return Dask's configuration with these, as a context manager: what its variables set at the start."""
        import dask  # noqa: PLC0415 - an extra
        import distributed  # noqa: F401, PLC0415 - its defaults must be there before they are changed

        tls = "distributed.comm.tls"
        client = {f"{tls}.client.cert": str(self.certificate), f"{tls}.client.key": str(self.key)}
        return dask.config.set({f"{tls}.ca-file": str(self.authority), **client})


def test_tls(make_dask: MakeDask, dask_cluster: DaskServers, tmp_path: Path) -> None:
    ours, theirs = Certificates(tmp_path / "ours"), Certificates(tmp_path / "theirs")
    servers = make_dask(1, tls=ours.tls, record=True)
    with ours.configured(), open_engine(servers.url, ignore_event) as cluster:
        work = Away(acts.doubled, "a-word", lambda task: task, lambda: False)
        assert list(cluster.engine(ignore_event, 1).run_tasks(lambda task: task, [2], work)) == [(2, "a-worda-word")]
    assert b"a-word" not in servers.recorded and len(servers.recorded) > 1000
    with theirs.configured(), pytest.raises(EngineError, match=r"TLS failed|refuses the certificate"):
        open_engine(servers.url, ignore_event)
    with (
        ours.configured(),
        pytest.raises(EngineError, match=r"(without TLS|refuses the certificate)(.|\n)*Write dask://"),
    ):
        open_engine(dask_cluster.url.replace("dask:", "dask+tls:"), ignore_event)
    with pytest.raises(ConfigError, match="no certificate for TLS is configured"):
        open_engine(servers.url, ignore_event)


def test_an_unencrypted_scheduler_elsewhere_gets_a_warning(dask_cluster: DaskServers, monkeypatch: Any) -> None:
    events = list[Event]()
    with open_engine(dask_cluster.url, events.append):
        assert events == []
    monkeypatch.setattr("floodmark.engine.address.DaskAddress.is_local", False)
    with open_engine(dask_cluster.url, events.append):
        (event,) = events
    assert isinstance(event, Warned) and "is not encrypted" in event.message
    assert [one.result for one in check_engine(dask_cluster.url)] == ["warning", "ok"]


@pytest.fixture
def floodmark(pg: PgDatabase, tmp_path: Path) -> Floodmark:
    made = Floodmark(tmp_path / "job", {"FLOODMARK_SOURCE": pg.url, "FLOODMARK_DESTINATION": str(tmp_path / "out")})
    made.configure("chunk_size: 64KiB\nlimits: {connections: 2}\n")
    return made


def test_ctrl_c_and_a_dead_scheduler_are_told_in_our_words(
    pg: PgDatabase, floodmark: Floodmark, make_dask: MakeDask, tmp_path: Path
) -> None:
    pg.execute(BIG.format(30_000))
    servers = make_dask(1, {"FLOODMARK_SOURCE": pg.url})
    engine = {"FLOODMARK_ENGINE": servers.url}

    def landed() -> int:
        return len([one for one in (tmp_path / "out").rglob("*.gz") if one.is_file()])

    process = floodmark.start("run", environment=engine)
    until(lambda: process.poll() is not None or landed() > 3)
    said = asked_to_stop(process, signal.SIGINT)
    done = floodmark.end(process, said=said)
    assert done.code == 130 and "distributed" not in done.said and "kept" in done.said

    kept = landed()
    process = floodmark.start("run", environment=engine)
    until(lambda: process.poll() is not None or landed() > kept + 3)
    servers.scheduler.kill()
    done = floodmark.end(process)
    assert done.code == 16 and "lost the Dask scheduler" in done.said
    assert "distributed" not in done.said and "asyncio" not in done.said

    done = floodmark("run", code=16, environment=engine)
    assert "can't reach the Dask scheduler" in done.said
    floodmark("run", "--output", "json")
    assert floodmark("verify", "--output", "json").json["ok"]


@pytest.mark.parametrize(
    ("engine", "why"),
    [
        ("tcp://host:8786", "it does not begin with dask:// or dask+tls://"),
        ("dask://me:secret@host", "it holds a user or a password, which Dask does not know"),
        ("dask://host/path", "it is not a host and a port"),
        ("dask://host:port", "it is not a URL"),
    ],
)
def test_a_wrong_address_is_refused(floodmark: Floodmark, engine: str, why: str) -> None:
    done = floodmark("run", "--engine", engine, code=10)
    assert f"--engine: {why}" in done.said and "secret" not in done.said
