"""The choice of tables: patterns with wildcards and SQL quoting, matched against the names in a source.

Pure. A source lists its relations as `CandidateRelation`s. `choose_tables` and `rules_by_table` return the choice of
the user's `Selection` among them, and raise ConfigError for a pattern that picks nothing. A pattern of tables.exclude
that matches nothing is only a warning: the table that it names can be gone for good.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from floodmark.config import ContractTerms, Selection, TableRule
from floodmark.errors import ConfigError
from floodmark.model import TableName

_TOKEN = re.compile(r'"(?P<quoted>(?:[^"]|"")*)"|(?P<wild>[*?])|(?P<dot>\.)|(?P<plain>[^"])', re.DOTALL)
_WILD = {"*": ".*", "?": "."}
_NEEDS_QUOTES = re.compile(r'[.*?"\s]')


class CandidateRelation(Struct, frozen=True):
    """A relation that a pattern can pick. `what` describes it in messages, as in "a view".

    `by` says which patterns can pick it: any pattern, one whose schema has no wildcard, one without any wildcard, or
    none (its rows come with another table). `noun` counts such relations. `parents` are the tables from which it
    inherits its columns, without being a partition: their rows do not include its own.
    """

    table: TableName
    by: Literal["any", "schema", "exact", "never"] = "any"
    what: str = "a table"
    noun: str = "table"
    parents: tuple[TableName, ...] = ()


class LeftOut(Struct, frozen=True):
    """A relation that is not landed although a pattern matches it, or its parent. `kind` is such as `view`."""

    table: TableName
    kind: str


class TableChoice(Struct, frozen=True):
    """The selected tables, ordered by name.

    `idle` are the errors of the patterns in tables.exclude that match nothing. `left_out` are the relations that only a
    pattern with their full name would pick, ordered by name. It is empty if --table narrows the choice. `unapproved`
    are the tables that the patterns pick and the contract does not have, unless they are included anyway.
    """

    tables: tuple[TableName, ...] = ()
    idle: tuple[ConfigError, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    unapproved: tuple[TableName, ...] = ()


class Pattern:
    """A pattern `schema.table` with `*` and `?`. Either part can be quoted as in SQL, which makes it literal.

    Without a dot it means `default_schema`. Matching is case-sensitive. Raises ConfigError if malformed.
    """

    def __init__(self, text: str, default_schema: str, setting: str) -> None:
        parts = _split_pattern(text, setting)
        if len(parts) == 1:
            parts.insert(0, (re.escape(default_schema), default_schema))
        (schema_regex, self.schema), (name_regex, self.name) = parts
        self._schema = re.compile(schema_regex, re.DOTALL)
        self._name = re.compile(name_regex, re.DOTALL)

    @property
    def table(self) -> TableName | None:
        """Return the one table that it names, or None if it holds a wildcard."""
        return None if self.schema is None or self.name is None else TableName(self.schema, self.name)

    def matches(self, table: TableName) -> bool:
        return bool(self._schema.fullmatch(table.schema) and self._name.fullmatch(table.name))

    def picks(self, candidate: CandidateRelation) -> bool:
        """Return True if it matches the candidate and is of the required form."""
        allowed = {
            "any": True,
            "schema": self.schema is not None,
            "exact": self.table is not None,
            "never": False,
        }
        return allowed[candidate.by] and self.matches(candidate.table)


def choose_tables(candidates: Sequence[CandidateRelation], selection: Selection, default_schema: str) -> TableChoice:
    """Return the selected tables: include, less exclude, narrowed by only and skip.

    Raises ConfigError for a pattern that picks nothing (the default include can pick nothing, in an empty database). A
    pattern of exclude raises it only if it matches nothing but partitions, because their rows would be landed.
    """
    chosen: set[TableName] = set()
    idle: list[ConfigError] = []
    for text in selection.include:
        pattern = Pattern(text, default_schema, "tables.include")
        hits = {c.table for c in candidates if pattern.picks(c)}
        if not hits and selection.include != Selection().include:
            raise _no_match("tables.include", text, pattern, candidates)
        chosen |= hits
    for text in selection.exclude:
        pattern = Pattern(text, default_schema, "tables.exclude")
        hits = {c.table for c in candidates if c.by != "never" and pattern.matches(c.table)}
        if not hits:
            error = _no_match("tables.exclude", text, pattern, candidates)
            if any(pattern.matches(c.table) for c in candidates):
                raise error
            idle.append(error)
        chosen -= hits
    left_out = () if selection.only else _left_out(candidates, chosen, selection, default_schema)
    narrowed = _narrowed_selection(chosen, candidates, selection, default_schema)
    unapproved = _unapproved(narrowed, selection)
    return TableChoice(tuple(sorted(narrowed - unapproved)), tuple(idle), left_out, tuple(sorted(unapproved)))


def _unapproved(tables: set[TableName], selection: Selection) -> set[TableName]:
    """Return the tables that must not be read, because the contract does not have them."""
    terms = selection.contract
    return set() if terms is None or terms.tables == "include" else tables - terms.contract.tables.keys()


def _left_out(
    candidates: Sequence[CandidateRelation], chosen: set[TableName], selection: Selection, default_schema: str
) -> tuple[LeftOut, ...]:
    """Return what a reader of the patterns could expect to be landed, and is not."""
    include = [Pattern(text, default_schema, "tables.include") for text in selection.include]
    exclude = [Pattern(text, default_schema, "tables.exclude") for text in selection.exclude]

    def expected(one: CandidateRelation) -> bool:
        if one.by in ("schema", "exact"):
            return any(pattern.matches(one.table) for pattern in include)
        return not chosen.isdisjoint(one.parents)

    found = [
        LeftOut(one.table, "child table" if one.by == "any" else one.noun)
        for one in candidates
        if one.table not in chosen and expected(one) and not any(pattern.matches(one.table) for pattern in exclude)
    ]
    return tuple(sorted(found, key=lambda one: one.table))


def picked_if_plain(table: TableName, selection: Selection, default_schema: str) -> bool:
    """Return True if include and exclude pick a plain table of this name, for this run or for others."""

    def named(texts: Iterable[str], setting: str) -> bool:
        return any(Pattern(text, default_schema, setting).matches(table) for text in texts)

    return named(selection.include, "tables.include") and not named(selection.exclude, "tables.exclude")


def rules_by_table(
    candidates: Sequence[CandidateRelation], selection: Selection, default_schema: str
) -> dict[TableName, TableRule]:
    """Return the rules, by the table that each one names, narrowed to the columns that the contract approves.

    Raises ConfigError for a wildcard or a missing table.
    """
    known = {c.table for c in candidates if c.by != "never"}
    rules: dict[TableName, TableRule] = {}
    for text, rule in selection.rules.items():
        pattern = Pattern(text, default_schema, "tables.rules")
        if pattern.table is None:
            why = "its key contains a wildcard, and a rule is for one table"
            raise ConfigError("can't use a table rule", on=f"tables.rules: {text}", why=why)
        if pattern.table not in known:
            raise _no_match("tables.rules", text, pattern, candidates)
        if pattern.table in rules:
            why = "another rule is for the same table"
            raise ConfigError("can't use a table rule", on=f"tables.rules: {text}", why=why, hint="Keep one of them.")
        rules[pattern.table] = rule
    return rules | dict(_approving_rules(rules, known, selection.contract))


def _approving_rules(
    rules: Mapping[TableName, TableRule], known: set[TableName], terms: ContractTerms | None
) -> Iterator[tuple[TableName, TableRule]]:
    """Yield the rules of the contract's tables, with the columns that it approves."""
    if terms is None or terms.columns == "include":
        return
    for table, approved in terms.contract.tables.items():
        if table in known:
            rule = rules.get(table, TableRule())
            yield table, replace(rule, columns=replace(rule.columns, approved=approved.columns))


def require_column(table: TableName, key: str, name: str, names: Sequence[str]) -> None:
    """Raise ConfigError if a rule's `key` names a column that the table does not have."""
    if name in names:
        return
    close = get_close_matches(name, names, n=3)
    raise ConfigError(
        "can't use a table rule",
        on=f"tables.rules.{exact_pattern(table)}.{key}",
        why=f"the table has no column {name}",
        hint=f"Did you mean {' or '.join(close)}?" if close else None,
    )


def exact_pattern(table: TableName) -> str:
    """Return the pattern that names exactly this table."""
    return f"{pattern_part(table.schema)}.{pattern_part(table.name)}"


def pattern_part(name: str) -> str:
    """Return a name as a part of a pattern, in quotes if it needs them."""
    return '"' + name.replace('"', '""') + '"' if not name or _NEEDS_QUOTES.search(name) else name


def pick_tables(
    tables: Iterable[TableName], patterns: Iterable[str], default_schema: str, where: str, option: str = "--table"
) -> set[TableName]:
    """Return the tables that an option picks. Raises ConfigError for a pattern that matches none of them."""
    known, picked = sorted(tables), set[TableName]()
    for text in patterns:
        pattern = Pattern(text, default_schema, option)
        hits = {table for table in known if pattern.matches(table)}
        if not hits:
            close = _close_tables(text, known)
            hint = f"Did you mean {' or '.join(close)}?" if close else "`floodmark status` lists the tables."
            raise ConfigError(
                "a pattern matches no table", on=f"{option}: {text}", why=f"{where} has no such table", hint=hint
            )
        picked |= hits
    return picked


def _close_tables(text: str, known: Sequence[TableName]) -> list[str]:
    """Return up to three patterns of tables with a similar name, with or without its schema."""
    close = get_close_matches(text, [exact_pattern(table) for table in known], n=3)
    names = [] if close else get_close_matches(text, [table.name for table in known], n=3)
    return close or [exact_pattern(table) for table in known if table.name in names][:3]


def narrowed_away(table: TableName, selection: Selection, default_schema: str) -> bool:
    """Return True if --table or --exclude leaves this table out of this run, whatever the source holds."""
    if any(Pattern(text, default_schema, "--exclude").matches(table) for text in selection.skip):
        return True
    return bool(selection.only) and not any(
        Pattern(text, default_schema, "--table").matches(table) for text in selection.only
    )


def _narrowed_selection(
    chosen: set[TableName], candidates: Sequence[CandidateRelation], selection: Selection, default_schema: str
) -> set[TableName]:
    narrowed = set() if selection.only else chosen
    for text in selection.only:
        narrowed |= _matching("--table", text, chosen, candidates, default_schema)
    for text in selection.skip:
        narrowed = narrowed - _matching("--exclude", text, chosen, candidates, default_schema)
    return narrowed


def _matching(
    option: str, text: str, chosen: set[TableName], candidates: Sequence[CandidateRelation], default_schema: str
) -> set[TableName]:
    pattern = Pattern(text, default_schema, option)
    hits = {table for table in chosen if pattern.matches(table)}
    if not hits:
        raise _no_match(option, text, pattern, candidates)
    return hits


def literal_parts(text: str, setting: str, *, most: int) -> tuple[str, ...]:
    """Return the parts of a dotted name, quoted as in SQL if needed. Raises ConfigError, also for a wildcard."""
    parts = tuple(literal for _, literal in _split_pattern(text, setting, most))
    if None in parts:
        why = "a wildcard can't name one table or column"
        raise ConfigError("can't read a name", on=f"{setting}: {text}", why=why, hint="Write the whole name.")
    return tuple(part for part in parts if part is not None)


def _split_pattern(text: str, setting: str, most: int = 2) -> list[tuple[str, str | None]]:
    """Return each part as a regular expression and, if it holds no wildcard, as the literal name."""
    parts: list[tuple[str, str | None]] = [("", "")]
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise ConfigError(
                "can't read a table pattern",
                on=f"{setting}: {text}",
                why='a " is not closed',
                hint='Quote a name as in SQL: public."a b"; a " in it is written twice.',
            )
        position = token.end()
        if token["dot"]:
            parts.append(("", ""))
        else:
            parts[-1] = _extended_part(parts[-1], token)
    if len(parts) > most or any(not regex for regex, _ in parts):
        raise ConfigError(
            "can't read a table pattern",
            on=f"{setting}: {text}",
            why="its form is not schema.table",
            hint='Quote a name that contains a dot: public."a.b"',
        )
    return parts


def _extended_part(part: tuple[str, str | None], token: re.Match[str]) -> tuple[str, str | None]:
    regex, literal = part
    if token["wild"]:
        return regex + _WILD[token["wild"]], None
    text = token["plain"] if token["quoted"] is None else token["quoted"].replace('""', '"')
    return regex + re.escape(text), None if literal is None else literal + text


def _no_match(setting: str, text: str, pattern: Pattern, candidates: Sequence[CandidateRelation]) -> ConfigError:
    """Return the error for a pattern that picks nothing, with its near matches."""
    near = [c for c in candidates if pattern.matches(c.table)]
    if near:
        return ConfigError(
            "a pattern matches no table", on=f"{setting}: {text}", why=_why_not(near[0]), hint=_HINTS[near[0].by]
        )
    close = get_close_matches(text, [exact_pattern(c.table) for c in candidates if c.by != "never"], n=3)
    close = close or get_close_matches(text, [c.table.name for c in candidates if c.by != "never"], n=3)
    return ConfigError(
        "a pattern matches no table",
        on=f"{setting}: {text}",
        why="the source has no table of this name",
        hint=f"Did you mean {' or '.join(close)}?" if close else "`floodmark plan` lists the tables.",
    )


def _why_not(candidate: CandidateRelation) -> str:
    if candidate.by == "any":
        return f"{exact_pattern(candidate.table)} is not selected by tables.include and tables.exclude"
    return f"{exact_pattern(candidate.table)} is {candidate.what}"


_HINTS = {
    "any": "Select it first: --table and rules only narrow the selection.",
    "schema": "Name its schema, without a wildcard, in tables.include.",
    "exact": "Name it in full, without a wildcard, in tables.include.",
    "never": "Name the table it belongs to.",
}
