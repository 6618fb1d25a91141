"""The choice of tables: from the file's `tables` section and the flags to a checked `Selection`.

`source.selection` decides what a pattern means and which tables it picks. This module does only what needs no source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from floodmark.config.schema import ColumnsSection, ConfigFile, RuleSection
from floodmark.config.settings import ColumnRule, DetectMode, Flags, Secret, Selection, TableRule
from floodmark.config.shown import CONFIG_REFUSED, shown_key
from floodmark.config.values import filter_problem
from floodmark.errors import ConfigError

MASK_KEY = "FLOODMARK_MASK_KEY"


def table_selection(arguments: Flags, environ: Mapping[str, str], file: ConfigFile, name: str) -> Selection:
    """Return the combined selection of file and flags. `name` is the file's, for errors. Raises ConfigError."""
    tables = file.tables
    _require_patterns(tables.include or (), f"tables.include ({name})")
    _require_patterns(tables.exclude or (), f"tables.exclude ({name})")
    _require_patterns(arguments.tables, "--table")
    _require_patterns(arguments.exclude, "--exclude")
    _require_something_selected(tables.include, tables.exclude or (), name)
    if file.detect == "column":
        raise ConfigError(
            CONFIG_REFUSED,
            on=f"detect ({name})",
            why="column needs a column name for each table, so it can't be the default",
            hint="Set detect: column and column: … in tables.rules.<schema.table>.",
        )
    detect = file.detect or "exact"
    rules = {label: _table_rule(rule, detect, label, name) for label, rule in (tables.rules or {}).items()}
    return Selection(
        include=tables.include or ("*.*",),
        exclude=tables.exclude or (),
        only=arguments.tables,
        skip=arguments.exclude,
        new=tables.new or "include",
        rules=rules,
        detect=detect,
        mask_key=_mask_key(rules, environ, name),
    )


def _require_patterns(patterns: Iterable[str], on: str) -> None:
    for pattern in patterns:
        if not pattern.strip():
            hint = "Write schema.table, where * matches any letters and ? for one."
            raise ConfigError(CONFIG_REFUSED, on=on, why="a pattern is empty", hint=hint)


def _require_something_selected(include: tuple[str, ...] | None, exclude: tuple[str, ...], name: str) -> None:
    if include == ():
        why, hint = "the list is empty: no table would be extracted", 'Write ["*.*"], or remove the key.'
        raise ConfigError(CONFIG_REFUSED, on=f"tables.include ({name})", why=why, hint=hint)
    both = sorted(set(include or ()) & set(exclude))
    if both:
        on = f"tables.include and tables.exclude ({name})"
        why = f"they contradict each other: {', '.join(map(shown_key, both))} is in both"
        raise ConfigError(CONFIG_REFUSED, on=on, why=why, hint="Remove the pattern from one of the two.")


def _table_rule(rule: RuleSection, detect: DetectMode, label: str, name: str) -> TableRule:
    path = f"tables.rules.{shown_key(label)}"
    if rule.where is not None and (problem := filter_problem(rule.where)) is not None:
        hint = 'Write one SQL condition on the table\'s columns, such as "not test_data".'
        raise ConfigError(CONFIG_REFUSED, on=f"{path}.where ({name})", why=problem, hint=hint)
    mode = rule.detect or detect
    if mode == "column" and not rule.column:
        hint = f"Name the column that grows with every change: {path}.column: updated_at."
        raise ConfigError(CONFIG_REFUSED, on=f"{path}.column ({name})", why="detect: column needs a column", hint=hint)
    if rule.column is not None and mode != "column":
        why = f"it contradicts detect: {mode}, which reads no column"
        hint = f"Set {path}.detect: column, or remove the column."
        raise ConfigError(CONFIG_REFUSED, on=f"{path}.column ({name})", why=why, hint=hint)
    return TableRule(_column_rule(rule.columns, path, name), rule.where, rule.detect, rule.column)


def _column_rule(columns: ColumnsSection | None, path: str, name: str) -> ColumnRule:
    if columns is None:
        return ColumnRule()
    exclude, mask = columns.exclude or (), columns.mask or {}
    both = [shown_key(column) for column in mask if column in exclude]
    if both:
        why = f"columns.exclude leaves out {', '.join(both)}, so a mask contradicts it"
        raise ConfigError(
            CONFIG_REFUSED, on=f"{path}.columns.mask ({name})", why=why, hint="Remove the column from one of the two."
        )
    return ColumnRule(exclude, mask)


def require_possible_detection(selection: Selection, url: Secret | None, name: str) -> None:
    """Refuse a way of detection that only PostgreSQL has. Without a URL, libpq's variables name PostgreSQL."""
    if url is None or url.reveal().strip().startswith("postgres"):
        return
    chosen = {
        f"tables.rules.{shown_key(label)}.detect ({name})": rule.detect for label, rule in selection.rules.items()
    }
    for on, mode in (*chosen.items(), (f"detect ({name})", selection.detect)):
        if mode in ("journal", "column"):
            why = f"{mode} works on PostgreSQL only"
            raise ConfigError(CONFIG_REFUSED, on=on, why=why, hint="Set detect: exact.")


def _mask_key(rules: Mapping[str, TableRule], environ: Mapping[str, str], name: str) -> Secret | None:
    value = environ.get(MASK_KEY)
    if value:
        return Secret(value)
    for label, rule in rules.items():
        if "hash" in rule.columns.mask.values():
            on = f"tables.rules.{shown_key(label)}.columns.mask ({name})"
            why = f"the mask hash needs a key, and {MASK_KEY} is not set"
            hint = f"Set {MASK_KEY} to a long random text and keep it: another key gives other hashes."
            raise ConfigError(CONFIG_REFUSED, on=on, why=why, hint=hint)
    return None
