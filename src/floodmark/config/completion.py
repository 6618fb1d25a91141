"""Checked `CompletionSettings`, made from the file's `completion` section."""

from __future__ import annotations

from typing import NoReturn

from floodmark.config.notify_schema import CompletionSection
from floodmark.config.settings import CompletionSettings, Settings
from floodmark.config.shown import CONFIG_REFUSED
from floodmark.config.values import BUS_ARN, TOPIC_ARN
from floodmark.errors import ConfigError


def completion_settings(section: CompletionSection, name: str) -> CompletionSettings:
    """Return the signals that follow a commit. `name` is the file's, for errors. Raises ConfigError."""
    if section.message is not None and not any(form.match(section.message) for form in (TOPIC_ARN, BUS_ARN)):
        hint = "Write arn:aws:sns:<region>:<account>:<topic>, or arn:aws:events:<region>:<account>:event-bus/<name>."
        _refuse(f"completion.message ({name})", "not the ARN of an SNS topic or an EventBridge bus", hint)
    return CompletionSettings(section.object, section.message)


def require_completable(settings: Settings, name: str) -> None:
    """Raise ConfigError unless the run keeps a state, and the destination keeps the objects that are put there."""
    if not settings.completion.wanted:
        return
    if settings.state_url is None:
        hint = "Set FLOODMARK_STATE to a bucket of your own, or remove the section."
        _refuse(f"completion ({name})", "it needs a state: without one a run has no manifest to name", hint)
    if settings.completion.object == "destination" and settings.destination.layout != "plain":
        why = "the destination is a landing zone, and its receiver takes every object for data"
        _refuse(f"completion.object ({name})", why, "Write object: state.")


def _refuse(on: str, why: str, hint: str) -> NoReturn:
    raise ConfigError(CONFIG_REFUSED, on=on, why=why, hint=hint)
