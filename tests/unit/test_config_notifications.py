"""`notify`, `runbook_url` and `completion`: what they mean, and how each wrong one is told without a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from floodmark.config import ChannelSettings, CompletionSettings, Flags, NotifySettings, Secret, Settings, load
from floodmark.config.load import load_notify
from floodmark.config.notifications import DEFAULT_KINDS
from floodmark.errors import ConfigError

CANARY = "c4n4ry-hunter2"
TOPIC = "arn:aws:sns:eu-west-2:123456789012:nightly"
BUS = "arn:aws:events:eu-west-2:123456789012:event-bus/landed"
BASE = {
    "FLOODMARK_SOURCE": "postgresql://u@h/db",
    "FLOODMARK_DESTINATION": "s3://mine/lake",
    "SLACK": f"https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/{CANARY}",
    "TEAMS": f"https://prod-1.uksouth.logic.azure.com:443/workflows/ab12/triggers/manual/paths/invoke?sig={CANARY}",
    "HOOK": f"https://Hooks.Example.org:8443/{CANARY}?token={CANARY}",
    "MAIL": f"mailtos://me:{CANARY}@example.org?to=team@example.org",
    "CHAT": f"tgram://{CANARY}/12345",
    "SECRET_HOST": f"https://{CANARY}.lambda-url.eu-west-2.on.aws/",
    "TOPIC": f"arn:aws:sns:eu-west-2:123456789012:{CANARY}",
    "SECRET": CANARY,
    "EMPTY": "",
}


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def from_file(text: str, **environ: str) -> Settings:
    Path("floodmark.yaml").write_text(text, encoding="utf-8")
    return load(Flags(), {**BASE, **environ})


def channel(text: str) -> ChannelSettings:
    (found,) = from_file(f"notify: [{text}]").notify.channels
    return found


@pytest.mark.parametrize(
    ("text", "name", "kind"),
    [
        ("{to_env: SLACK}", "slack", "people"),
        ("{to_env: TEAMS}", "teams", "people"),
        ("{to_env: MAIL}", "mail", "people"),
        ("{to_env: CHAT}", "tgram", "people"),
        ("{to_env: HOOK, secret_env: SECRET}", "webhook", "webhook"),
        ("{to_env: SECRET_HOST, secret_env: SECRET}", "webhook", "webhook"),
        ("{to_env: TOPIC}", "topic", "topic"),
        ("{to: 'https://Hooks.Example.org:8443/x', secret_env: SECRET}", "hooks.example.org", "webhook"),
        ("{to: 'http://[::1]:9/x', secret_env: SECRET}", "--1", "webhook"),
        (f"{{to: '{TOPIC}'}}", "nightly", "topic"),
        (f"{{to: '{TOPIC}.fifo'}}", "nightly.fifo", "topic"),
        ("{to: 'mailto://mail.example.org:25?from=a@example.org&to=b@example.org'}", "mail", "people"),
        (f"{{name: on-call, to: '{TOPIC}'}}", "on-call", "topic"),
    ],
)
def test_a_channel_is_known_by_its_address_and_named_without_a_secret(text: str, name: str, kind: str) -> None:
    found = channel(text)
    assert (found.name, found.kind) == (name, kind)
    assert CANARY not in repr(found)


def test_every_key_arrives() -> None:
    text = "{to_env: HOOK, secret_env: SECRET, name: hook, on: [succeeded, stopped, succeeded], min_interval: 1h30m}"
    found = channel(text)
    assert found == ChannelSettings(
        name="hook",
        kind="webhook",
        to=Secret(BASE["HOOK"]),
        on=("succeeded", "stopped"),
        min_interval=5400,
        secret=Secret(CANARY),
    )
    settings = from_file(
        f"runbook_url: https://docs.example.org/runbook.md\ncompletion: {{object: destination, message: '{BUS}'}}"
    )
    assert settings.notify.runbook_url == "https://docs.example.org/runbook.md"
    assert settings.completion == CompletionSettings("destination", BUS) and settings.completion.wanted


def test_defaults() -> None:
    settings = from_file("")
    assert settings.notify == NotifySettings() and not settings.completion.wanted
    found = channel("{to_env: SLACK}")
    assert found.on == DEFAULT_KINDS and found.min_interval == 0 and found.secret is None


def test_on_needs_no_quotes() -> None:
    """YAML 1.1 reads the word as true. Columns of that name can be masked, too."""
    assert channel("{to_env: SLACK, on: [failed]}").on == ("failed",)
    assert channel('{to_env: SLACK, "on": [failed]}').on == ("failed",)
    rules = from_file("tables: {rules: {public.a: {columns: {mask: {on: redact, no: redact}}}}}").selection.rules
    assert dict(rules["public.a"].columns.mask) == {"on": "redact", "no": "redact"}


NOTIFY_REFUSED = [
    ("{}", ["notify[0].to", "missing"]),
    (f"{{to: '{TOPIC}', to_env: SLACK}}", ["notify[0].to", "to_env names the address, too"]),
    ("{to_env: MISSING}", ["notify[0].to_env", "not set"]),
    ("{to_env: EMPTY}", ["notify[0].to_env", "not set"]),
    (f"{{to_env: {CANARY}}}", ["notify[0].to_env", "not set"]),
    ("{to: '${SLACK}'}", ["notify[0].to", "not expanded", "to_env:"]),
    ("{to: $SLACK}", ["notify[0].to", "not expanded"]),
    (f"{{to: '{BASE['SLACK']}'}}", ["notify[0].to", "is a secret", "to_env: NAME"]),
    (f"{{to: '{BASE['TEAMS']}'}}", ["notify[0].to", "is a secret"]),
    (f"{{to: '{BASE['CHAT']}'}}", ["notify[0].to", "is a secret"]),
    (f"{{to: '{BASE['MAIL']}'}}", ["notify[0].to", "holds a password"]),
    (f"{{to: 'mailto://example.org?pass={CANARY}'}}", ["notify[0].to", "holds a password"]),
    (f"{{to: 'https://h/x?token={CANARY}', secret_env: SECRET}}", ["notify[0].to", "parameters can hold a secret"]),
    (f"{{to: 'https://me:{CANARY}@h/x', secret_env: SECRET}}", ["notify[0].to", "a user in the URL"]),
    ("{to: 'https://h/x'}", ["notify[0].secret_env", "is missing", "long random text"]),
    ("{to: 'https://h/x', secret_env: MISSING}", ["notify[0].secret_env", "not set"]),
    (f"{{to: '{TOPIC}', secret_env: SECRET}}", ["notify[0].secret_env", "only a request to an http(s) URL"]),
    ("{to: 'https:///x', secret_env: SECRET}", ["notify[0].to", "the host is missing"]),
    ("{to: 'https://h:x/', secret_env: SECRET}", ["notify[0].to", "the host is missing, or the port"]),
    ("{to: 'sns://a/b'}", ["notify[0].to", "no URL here", "ARN"]),
    (f"{{to: '{BUS}'}}", ["notify[0].to", "not an address"]),
    ("{to: team@example.org}", ["notify[0].to", "not an address", "mailtos://"]),
    ("{to: 'mailto://a b'}", ["notify[0].to", "not an address"]),
    ("{to_env: SLACK, name: a/b}", ["notify[0].name", "letters, digits"]),
    ("{to_env: SLACK, on: []}", ["notify[0].on", "the list is empty"]),
    ("{to_env: SLACK, on: [fialed]}", ["notify[0].on[0]", "Did you mean failed?"]),
    ("{to_env: SLACK, on: failed}", ["notify[0].on", "expected a list"]),
    ("{to_env: SLACK, min_interval: soon}", ["notify[0].min_interval", "expected a duration"]),
    ("{to_env: SLACK, min_interval: 9999d}", ["notify[0].min_interval", "out of range"]),
    ("{to_env: SLACK}, {to_env: SLACK}", ["notify", "two channels are named slack", "name:"]),
    (
        "{to_env: HOOK, secret_env: SECRET}, {to_env: SECRET_HOST, secret_env: SECRET}",
        ["notify", "two channels are named webhook", "to_env", "its own name:"],
    ),
    ("{too: x}", ["notify[0].too", "Did you mean to?"]),
]
REFUSED = [
    *((f"notify: [{text}]", wanted) for text, wanted in NOTIFY_REFUSED),
    ("runbook_url: ops/runbook.md", ["runbook_url", "http:// or https://"]),
    (f"runbook_url: https://me:{CANARY}@h/x", ["runbook_url", "without a user"]),
    ("completion: {object: dest}", ["completion.object", "Use state or destination"]),
    ("completion: {message: topic}", ["completion.message", "not the ARN"]),
    (f"completion: {{message: '{TOPIC}:1'}}", ["completion.message", "not the ARN"]),
    (
        "destination: {layout: moj-landing, database_name: a_b}\ncompletion: {object: state}",
        ["completion", "needs a state", "FLOODMARK_STATE"],
    ),
    (
        "destination: {layout: moj-landing, database_name: a_b}\nstate: {url: s3://other/state}\n"
        "completion: {object: destination}",
        ["completion.object", "landing zone", "object: state"],
    ),
]


@pytest.mark.parametrize(("text", "wanted"), REFUSED, ids=[text for text, _ in REFUSED])
def test_a_wrong_one_is_told_by_key_file_and_hint(text: str, wanted: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        from_file(text)
    said = str(caught.value)
    assert caught.value.exit_code == 10 and caught.value.hint
    assert CANARY not in said and "hooks.slack.com" not in said
    for part in wanted:
        assert part in said, said
    assert "floodmark.yaml" in said


def test_commands_that_read_only_the_state_need_no_secret() -> None:
    Path("floodmark.yaml").write_text("notify: [{to_env: MISSING}]", encoding="utf-8")
    assert load(Flags(), BASE, state_only=True).notify == NotifySettings()


def test_a_state_elsewhere_completes_a_landing_zone() -> None:
    text = (
        "destination: {layout: moj-landing, database_name: a_b}\nstate: {url: s3://other/state}\n"
        f"completion: {{object: state, message: '{TOPIC}'}}"
    )
    assert from_file(text).completion == CompletionSettings("state", TOPIC)


def test_channels_that_can_be_used_are_read_although_others_and_the_rest_of_the_file_can_not() -> None:
    Path("floodmark.yaml").write_text(
        "chunk_size: 1\nrunbook_url: nonsense\nnotify: [{to_env: MISSING}, {to_env: SLACK}, {to_env: SLACK}]",
        encoding="utf-8",
    )
    found = load_notify(None, BASE, lenient=True)
    assert [one.name for one in found.channels] == ["slack"] and found.runbook_url is None
    two = "notify: [{to_env: HOOK, secret_env: SECRET}, {to_env: SECRET_HOST, secret_env: SECRET}]"
    Path("floodmark.yaml").write_text(two, encoding="utf-8")
    assert [one.name for one in load_notify(None, BASE, lenient=True).channels] == ["webhook", "webhook"]
    Path("floodmark.yaml").write_text("notify: [{to_env: MISSING}]", encoding="utf-8")
    with pytest.raises(ConfigError, match="not set"):
        load_notify(None, BASE)
