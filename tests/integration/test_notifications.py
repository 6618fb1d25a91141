"""People are told how a run ended: whole commands, and real receivers over HTTP, SMTP, SNS and TLS."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fix_canaries import CANARY, PASSWORD, ROW, TABLES, require_none
from fix_cli import command_streams
from fix_command import Floodmark, asked_to_stop, at_work, held, until
from fix_ports import HOST, closed_port
from fix_postgres import PgDatabase
from fix_receivers import AwsReceivers, ChatHosts, HttpReceiver, MailServer
from fix_storage import S3Bucket, S3Server
from floodmark.cli.arguments import parse
from floodmark.cli.commands import call
from floodmark.cli.main import main
from floodmark.notify import job

SECRET = f"{CANARY}-shared"
EVERYTHING = "[audit_mismatch, failed, stopped, partial, tables_gone, schema_changed, succeeded]"


class Service:
    """A job that lands a small SQLite database in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.database = folder, folder / "cases.db"
        self.write("CREATE TABLE person (id int, name text); INSERT INTO person VALUES (1, 'a')")
        self.write("CREATE TABLE gone (id int); INSERT INTO gone VALUES (1)")
        self.floodmark = Floodmark(
            folder / "job",
            {
                "FLOODMARK_SOURCE": f"sqlite:///{self.database}",
                "FLOODMARK_DESTINATION": str(folder / "out"),
                "FLOODMARK_LOG_FORMAT": "json",
                "SECRET": SECRET,
            },
        )

    def write(self, statements: str) -> None:
        with sqlite3.connect(self.database) as connection:
            connection.executescript("PRAGMA journal_mode = WAL;" + statements)
        connection.close()

    def notify(self, *channels: str, rest: str = "") -> None:
        self.floodmark.configure("notify:\n" + "".join(f"  - {one}\n" for one in channels) + rest)

    def run(self, *arguments: str, code: int = 0, **named: Any) -> list[dict[str, Any]]:
        """Run, and return the log's lines about notifications."""
        done = self.floodmark("run", *arguments, code=code, **named)
        lines = [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"].startswith("notification_") or line["event"] == "warning"]

    def notified(self) -> dict[str, tuple[int, int]]:
        document = json.loads((self.folder / "out/_floodmark/notified.json").read_bytes())
        return {one["name"]: (one["sent"], one["failed"]) for one in document["channels"]}


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


def hook(receiver: HttpReceiver, name: str = "hook", on: str = EVERYTHING, more: str = "") -> str:
    return f"{{name: {name}, to: '{receiver.url}', secret_env: SECRET, on: {on}{more}}}"


def kinds(receiver: HttpReceiver) -> list[list[str]]:
    return [one.json["kinds"] for one in receiver.requests]


def test_days_of_a_service_as_a_program_is_told_of_them(
    service: Service, make_receiver: Callable[..., HttpReceiver]
) -> None:
    http = make_receiver()
    service.notify(hook(http), rest="runbook_url: https://docs.example.org/runbook.md\n")
    assert [line["event"] for line in service.run()] == ["notification_sent"]
    service.write("ALTER TABLE person ADD COLUMN born text; DROP TABLE gone")
    service.run()
    service.database.rename(service.folder / "elsewhere.db")
    service.run(code=12)
    assert kinds(http) == [["succeeded"], ["tables_gone", "schema_changed", "succeeded"], ["failed"]]
    first, second, third = (one.json for one in http.requests)
    assert all(one.is_signed_with(SECRET) for one in http.requests)
    assert (first["outcome"], first["exit_code"], first["database"]) == ("success", 0, "cases")
    assert first["manifest"] == f"manifests/{first['run_id']}.json" and first["checked"] == 2
    assert {(one["kind"], one["name"]) for one in second["tables"]} == {
        ("tables_gone", "gone"),
        ("schema_changed", "person"),
    }
    assert "born" in second["text"] and "#floodmarkschemachanged" in second["text"]
    assert (third["exit_code"], third["database"], third["manifest"]) == (12, "cases", None)
    assert "What to do: Fix the cause" in third["text"]
    assert service.notified() == {"hook": (3, 0)}
    require_none(*(one.body for one in http.requests))


def test_a_channel_that_is_down_is_told_in_the_log_and_the_metrics_and_fails_no_run(
    service: Service, make_receiver: Callable[..., HttpReceiver]
) -> None:
    http, flaky = make_receiver(), make_receiver(500)
    dead = f"{{name: dead, to: 'http://{HOST}:{closed_port()}/x', secret_env: SECRET, on: [succeeded]}}"
    service.notify(hook(http), hook(flaky, "flaky"), dead)
    textfile = service.folder / "floodmark.prom"
    begun = time.monotonic()
    lines = service.run("--metrics-textfile", str(textfile))
    assert time.monotonic() - begun < 10
    assert {line["channel"]: line["event"] for line in lines} == {
        "hook": "notification_sent",
        "flaky": "notification_sent",
        "dead": "notification_failed",
    }
    (failed,) = [line for line in lines if line["event"] == "notification_failed"]
    assert failed["level"] == "warning" and failed["why"] == "Connection refused" and failed["kinds"] == "succeeded"
    assert len(flaky.requests) == 2 and flaky.requests[0].json["id"] == flaky.requests[1].json["id"]
    text = textfile.read_text()
    for name, outcome, number in (
        ("hook", "sent", 1),
        ("flaky", "sent", 1),
        ("dead", "sent", 0),
        ("dead", "failed", 1),
    ):
        labels = f'{{channel="{name}",database="cases",outcome="{outcome}"}}'
        assert f"floodmark_notifications_total{labels} {number}.0" in text
    service.run("--metrics-textfile", str(textfile))
    assert 'total{channel="dead",database="cases",outcome="failed"} 2.0' in textfile.read_text()


def test_an_interval_holds_over_runs_and_not_without_state(
    service: Service, make_receiver: Callable[..., HttpReceiver]
) -> None:
    http = make_receiver()
    service.notify(hook(http, on="[failed, succeeded]", more=", min_interval: 1h"))
    service.run()
    assert [line["event"] for line in service.run("--log-level", "debug")] == ["notification_held"]
    service.write("CREATE TABLE other (id int)")
    service.database.rename(service.folder / "elsewhere.db")
    service.run(code=12)
    assert kinds(http) == [["succeeded"], ["failed"]], "another kind has an interval of its own"


def test_a_run_that_can_not_begin_tells_whom_it_can(
    service: Service, make_receiver: Callable[..., HttpReceiver]
) -> None:
    http = make_receiver()
    service.notify(hook(http), "{to_env: MISSING}")
    assert [line["event"] for line in service.run(code=10)] == ["notification_sent"]
    service.notify(hook(http), rest="chunk_size: 1\n")
    service.run(code=10, environment={"PGDATABASE": "cases"})
    service.notify(hook(http), "{name: chat, to_env: CHAT}")
    service.run(code=10, environment={"CHAT": f"slack://{CANARY}"})
    texts = [one.json["text"] for one in http.requests]
    assert kinds(http) == [["failed"]] * 3 and http.requests[1].json["database"] == "cases"
    assert "notify[1].to_env" in texts[0] and "chunk_size" in texts[1] and "chat" in texts[2]
    assert all("What to do: " in text for text in texts)
    assert not (service.folder / "out").exists()
    require_none(*(one.body for one in http.requests))


def test_a_failed_delivery_is_told_after_the_commit(
    service: Service, make_receiver: Callable[..., HttpReceiver]
) -> None:
    http = make_receiver()
    blocked = service.folder / "blocked"
    blocked.write_text("a file, where a folder should be")
    service.notify(hook(http), rest=f"deliver: [{{name: moj, url: '{blocked}/zone'}}]\n")
    service.run(code=13)
    (told,) = (one.json for one in http.requests)
    assert told["kinds"] == ["partial"] and told["outcome"] == "partial" and told["exit_code"] == 13
    assert told["problems"][0]["what"] == "a delivery failed" and told["manifest"]


def test_a_state_of_another_database_is_not_touched(
    service: Service, make_receiver: Callable[..., HttpReceiver]
) -> None:
    http = make_receiver()
    service.run()
    service.notify(hook(http))
    other = service.folder / "other.db"
    other.write_bytes(service.database.read_bytes())
    service.run(code=10, environment={"FLOODMARK_SOURCE": f"sqlite:///{other}"})
    assert kinds(http) == [["failed"]] and "belongs to another database" in http.requests[0].json["text"]
    assert not (service.folder / "out/_floodmark/notified.json").exists()


def test_ten_seconds_are_the_limit_of_a_whole_command(
    service: Service, make_receiver: Callable[..., HttpReceiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a smaller limit, in this process: nobody has the time to wait for the real one."""
    monkeypatch.chdir(service.floodmark.folder)
    assert job.tell.__defaults__ == (10.0,)
    monkeypatch.setattr(job.tell, "__defaults__", (0.5,))
    spent = []
    for channels in ([], [], [hook(make_receiver(0))]):
        service.floodmark.configure(f"notify: [{', '.join(channels)}]")
        streams, _, errors = command_streams(service.floodmark.environment)
        begun = time.monotonic()
        assert call(parse(["run"]), streams) == 0
        spent.append(time.monotonic() - begun)
    assert "no answer in time" in errors.getvalue() and spent[2] - spent[1] < 1.0, spent


def test_slack_teams_and_mail(service: Service, chat_hosts: ChatHosts, mail_server: MailServer) -> None:
    """The two services' own hosts, as a proxy shows them, and an SMTP server."""
    service.notify("{to_env: SLACK}", "{to_env: TEAMS}", "{to_env: MAIL}")
    path = f"/workflows/{CANARY}/triggers/manual/paths/invoke"
    secrets = {
        "SLACK": f"https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXr{CANARY}z9",
        "TEAMS": f"https://prod-1.uksouth.logic.azure.com:443{path}?api-version=2016-06-01&sv=1.0&sig={CANARY}",
        "MAIL": mail_server.url,
        **chat_hosts.environment,
    }
    service.database.unlink()
    lines = service.run(code=12, environment=secrets)
    assert {line["channel"]: line["event"] for line in lines} == dict.fromkeys(
        ("slack", "teams", "mail"), "notification_sent"
    )
    by_host = {one.headers["host"].partition(":")[0]: one for one in chat_hosts.receiver.requests}
    slack, teams = by_host["hooks.slack.com"], by_host["prod-1.uksouth.logic.azure.com"]
    assert slack.path.startswith("/services/T1JJ3T3L2/") and teams.path.startswith(path)
    for said in (slack.body.decode(), teams.body.decode()):
        assert "the run failed" in said and "Nothing was committed" in said and "floodmarkrunfailed" in said
        assert "http" not in said.replace("http://adaptivecards.io", ""), "no picture from anywhere"
    (mail,) = mail_server.messages
    assert mail["Subject"] == "Floodmark: cases: the run failed" and mail["To"] == "team@example.org"
    body = mail.get_body(("plain", "html"))
    assert body is not None and "What to do: " in body.get_content()


def test_a_name_can_not_call_everyone_in_a_channel(service: Service, chat_hosts: ChatHosts) -> None:
    service.run()
    service.write('CREATE TABLE "<!channel> & <@U1>" (id int); DROP TABLE gone')
    service.notify("{to_env: SLACK, on: [tables_gone, succeeded]}")
    slack = {"SLACK": "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"}
    service.run(environment={**slack, **chat_hosts.environment})
    service.write('DROP TABLE "<!channel> & <@U1>"')
    service.run(environment={**slack, **chat_hosts.environment})
    said = chat_hosts.receiver.requests[-1].body.decode()
    assert "<!channel>" not in said and "<@U1>" not in said and "channel" in said


def test_a_topic(service: Service, aws_receivers: AwsReceivers) -> None:
    service.notify(f"{{to: '{aws_receivers.topic}', on: [succeeded]}}")
    service.run(environment=aws_receivers.environment)
    (told,) = aws_receivers.received()
    assert told["kinds"] == ["succeeded"] and told["format"] == "floodmark.notification"
    service.run(environment={**aws_receivers.environment, "AWS_ENDPOINT_URL_SNS": f"http://{HOST}:{closed_port()}"})
    name = aws_receivers.topic.rpartition(":")[2]
    assert service.notified() == {name: (1, 1)}


def test_the_memory_of_intervals_in_a_bucket(
    service: Service, s3_server: S3Server, s3_bucket: S3Bucket, make_receiver: Callable[..., HttpReceiver]
) -> None:
    http = make_receiver()
    service.notify(hook(http, more=", min_interval: 1h"))
    place = {**s3_server.environment, "FLOODMARK_DESTINATION": f"{s3_bucket.url}/lake"}
    for _ in range(2):
        service.run(environment=place)
    assert kinds(http) == [["succeeded"]]


def test_a_stopped_run_is_told_as_stopped(
    pg: PgDatabase, tmp_path: Path, make_receiver: Callable[..., HttpReceiver]
) -> None:
    pg.execute("CREATE TABLE person AS SELECT 1 AS id")
    http = make_receiver()
    floodmark = Floodmark(
        tmp_path / "job",
        {"FLOODMARK_SOURCE": pg.url, "FLOODMARK_DESTINATION": str(tmp_path / "out"), "SECRET": SECRET},
    )
    floodmark.configure(f"notify: [{hook(http)}]")
    with psycopg.connect(pg.dsn) as connection:
        held(connection, "person")
        process = floodmark.start("run")
        until(at_work(pg, "%person%"))
        said = asked_to_stop(process, signal.SIGTERM)
        connection.rollback()
        done = floodmark.end(process, said=said)
    assert done.code == 143 and kinds(http) == [["stopped"]]
    assert http.requests[0].json["exit_code"] == 143 and "The next run continues" in http.requests[0].json["text"]


# The command that tries it


def test_notify_test_sends_to_each_channel_and_needs_nothing_else(
    service: Service, make_receiver: Callable[..., HttpReceiver], mail_server: MailServer
) -> None:
    http = make_receiver()
    service.notify(hook(http, more=", min_interval: 10d"), "{to_env: MAIL}")
    nothing = {"FLOODMARK_SOURCE": "", "FLOODMARK_DESTINATION": "", "MAIL": mail_server.url}
    for _ in range(2):
        done = service.floodmark("notify", "test", environment=nothing)
        assert done.out == "hook: sent\nmail: sent\n" and done.err == ""
    assert kinds(http) == [["test"]] * 2 and len(mail_server.messages) == 2
    assert http.requests[0].is_signed_with(SECRET)
    done = service.floodmark("notify", "test", "--to", "hook", "--output", "json", environment=nothing)
    assert done.json == {"channels": [{"name": "hook", "kind": "webhook", "sent": True, "why": None, "hint": None}]}
    assert len(mail_server.messages) == 2 and not (service.folder / "out").exists()


def test_notify_test_ends_with_13_if_one_channel_is_down(
    service: Service, make_receiver: Callable[..., HttpReceiver]
) -> None:
    service.notify(hook(make_receiver()), hook(make_receiver(403), "denied"))
    done = service.floodmark("notify", "test", code=13)
    assert done.out.splitlines()[:2] == ["hook: sent", "denied: not sent: it answered 403"]
    assert "Check the URL" in done.out
    (_, denied) = service.floodmark("notify", "test", "--output", "json", code=0).json["channels"]
    assert denied["sent"]


def test_notify_test_without_a_channel_is_refused(service: Service, make_receiver: Callable[..., HttpReceiver]) -> None:
    done = service.floodmark("notify", "test", code=10)
    assert "nobody to tell" in done.err and "docs/notifications.md" in done.err
    service.notify(hook(make_receiver()))
    done = service.floodmark("notify", "test", "--to", "nobody", code=10)
    assert "Use one of the names it has: hook." in done.err


def test_no_row_and_no_secret_in_any_message(
    pg: PgDatabase, tmp_path: Path, make_receiver: Callable[..., HttpReceiver], mail_server: MailServer
) -> None:
    """A server whose every answer repeats a value, and channels whose every address is a secret."""
    pg.execute(TABLES)
    role = pg.role("reader", PASSWORD)
    pg.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    http, refused = make_receiver(), make_receiver(*[401] * 10)
    floodmark = Floodmark(
        tmp_path / "job",
        {
            "FLOODMARK_SOURCE": role.url,
            "FLOODMARK_DESTINATION": str(tmp_path / "out"),
            "HOOK": f"{http.url}/{CANARY}",
            "REFUSED": f"{refused.url}?token={CANARY}",
            "MAIL": mail_server.url,
            "JSON": f"json://me:{CANARY}@{HOST}:{refused.port}/{CANARY}",
            "SECRET": SECRET,
        },
    )
    floodmark.configure(
        f"""
tables: {{rules: {{sick: {{where: "born::int > 0"}}}}}}
notify:
  - {{name: hook, to_env: HOOK, secret_env: SECRET, on: {EVERYTHING}}}
  - {{name: refused, to_env: REFUSED, secret_env: SECRET, on: {EVERYTHING}}}
  - {{name: mail, to_env: MAIL, on: {EVERYTHING}}}
  - {{name: json, to_env: JSON, on: {EVERYTHING}}}
"""
    )
    done = floodmark("run", code=3, environment={"FLOODMARK_DEBUG": "1"})
    assert done.err.count("notification_sent") >= 1 and done.err.count("notification_failed") >= 2
    (told,) = [one.json for one in http.requests]
    assert told["kinds"] == ["partial"] and [one["name"] for one in told["tables"]] == ["sick"]
    assert ROW.startswith(CANARY) and "22P02" in told["text"]
    require_none(*(one.body for one in http.requests), tmp_path / "out" / "_floodmark")
    floodmark("notify", "test", code=13)
    require_none(*(message.as_bytes() for message in mail_server.messages))


def test_without_the_extra_the_channel_is_refused_before_the_run(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("floodmark.notify.channels.find_spec", lambda name: None)
    monkeypatch.chdir(service.floodmark.folder)
    service.notify("{to_env: CHAT}")
    assert main(["run"], {**service.floodmark.environment, "CHAT": f"slack://{CANARY}"}) == 10
    assert "pip install '.[notify]'" in capsys.readouterr().err and not (service.folder / "out").exists()
