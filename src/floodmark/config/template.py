"""The floodmark.yaml that `floodmark init` writes: few keys, each explained. Pure; holds no password."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from msgspec import Struct

from floodmark.config.json_schema import FILE_NAME
from floodmark.config.settings import Mask
from floodmark.config.urls import FILES, password_variable


class TemplateChoices(Struct, frozen=True, kw_only=True):
    """The content of the file. None leaves a key out, with a comment that says what it would do.

    `found` describes the content of the database in sentences. `suggestions` are masks that columns' names suggest, by
    table as a rule names it.
    """

    source: str | None = None
    destination: str
    state: str | None = None
    layout: str | None = None
    found: Sequence[str] = ()
    suggestions: Mapping[str, Mapping[str, Mask]] = {}


def template_text(wanted: TemplateChoices) -> str:
    """Return the file's text."""
    return "\n".join([*_place_lines(wanted), *_table_lines(wanted), _REST])


def yaml_scalar(text: str) -> str:
    """Return a text in quotes, on one line, as YAML reads it back.

    The quoting is JSON's, with YAML's escapes for characters that can't be printed.
    """
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in quoted)


def _place_lines(wanted: TemplateChoices) -> list[str]:
    source, state, layout = wanted.source, wanted.state, wanted.layout
    return [
        f"# yaml-language-server: $schema={FILE_NAME}",
        "# The settings of `floodmark run`. Flags and environment variables override this file.",
        "# All keys: docs/configuration.md. To check the setup: floodmark doctor",
        "",
        "source:",
        *_source_lines(source),
        "  # Seconds to wait for a database that is down for maintenance at night.",
        "  wait_seconds: 600",
        "",
        "destination:",
        "  # The place for the data: s3://bucket/prefix, or a folder. boto3 finds the credentials.",
        f"  url: {yaml_scalar(wanted.destination)}",
        "  # plain: objects stay where they are put. moj-landing: a receiver moves each away as it arrives.",
        f"  {'# layout: plain' if layout is None else f'layout: {layout}'}",
        "",
        "state:",
        "  # The record of what was landed. By default in <destination>/_floodmark/. A landing zone can't hold it:",
        "  # without a state in your own bucket each run extracts everything.",
        f"  {'# url: s3://my-state/service' if state is None else f'url: {yaml_scalar(state)}'}",
        "",
    ]


def _source_lines(source: str | None) -> list[str]:
    """Return the lines about the URL. The variables that they name fit the kind of database."""
    if source is None:
        return [
            "  # The database to read. No password here: FLOODMARK_SOURCE can hold the whole URL. Without a URL,",
            "  # PGHOST, PGDATABASE and PGUSER name a PostgreSQL database. For other databases: docs/sources.md.",
            "  # url: postgresql://user@host:5432/database",
        ]
    secret = password_variable(source)
    if source.partition(":")[0].partition("+")[0] in FILES:
        about = "  # The database to read."
    elif secret is None:
        about = "  # The database to read. No password here: FLOODMARK_SOURCE can hold the whole URL."
    else:
        about = f"  # The database to read. No password here: {secret} holds it, or FLOODMARK_SOURCE the whole URL."
    return [about, f"  url: {yaml_scalar(source)}"]


def _table_lines(wanted: TemplateChoices) -> list[str]:
    lines = ["tables:", *(f"  # {yaml_scalar(line)[1:-1]}" for line in wanted.found)]
    lines += [
        "  # The tables to extract: schema.table, with * and ?.",
        '  include: ["*.*"]',
        "  # The tables to leave out of these. A pattern that matches nothing is a warning.",
        '  # exclude: ["*.flyway_schema_history"]',
        "  # include: a new table is extracted too. fail: a new table stops the run until someone approves it.",
        "  new: include",
        "  # Per table: columns to leave out (exclude: [a, b]) or to mask: hash (the same value always gives the same",
        "  # hash; needs FLOODMARK_MASK_KEY), redact (a fixed text), null (always null).",
    ]
    if wanted.suggestions:
        lines.append("  # The names of these columns suggest personal data. Remove the # to mask them.")
        lines.append("  # rules:")
        lines += [f"  #   {_rule_line(table, masks)}" for table, masks in wanted.suggestions.items()]
    else:
        lines.append("  # rules:")
        lines.append("  #   schema.person: {columns: {mask: {email: redact}}}")
    return [*lines, "", *_CONTRACT, ""]


def _rule_line(table: str, masks: Mapping[str, Mask]) -> str:
    inner = ", ".join(f"{yaml_scalar(column)}: {yaml_scalar(mask)}" for column, mask in masks.items())
    return f"{yaml_scalar(table)}: {{columns: {{mask: {{{inner}}}}}}}"


_CONTRACT = (
    "# A reviewed list of the tables and columns that may leave the database. To write it: floodmark contract write",
    "# contract: {tables: exclude, columns: exclude, types: accept}",
)
_REST = """\
limits:
  # The most connections to the database at once.
  connections: 4
  # The longest time for a run: an old snapshot keeps old row versions. The next run goes on from there.
  max_snapshot_age: 4h

audit:
  # The share of the proven data to read again and compare, on average over the runs.
  share: 0.5%
"""
