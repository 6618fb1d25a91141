"""Row filters whose result depends only on a row's stored bytes: a closed list that refuses everything else.

A filter outside the list still works, but change can't be proven through it. Pure: columns come in as their kinds, and
the reader of a small grammar either accounts for every token or names the one at which it stopped. However PostgreSQL
groups the tokens of an accepted filter, the result can only be built-in comparisons.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

Kind = Literal["bool", "number", "text", "ctext", "datetime", "other", "literal", "null"]

# Words that PostgreSQL never takes for a column unless they are quoted. Some are calls (user, current_date).
_RESERVED_WORDS = """
    all analyse analyze and any array as asc asymmetric authorization between binary both case cast check
    collate collation column concurrently constraint create cross current_catalog current_date current_role
    current_schema current_time current_timestamp current_user default deferrable desc distinct do else end
    except exists false fetch for foreign freeze from full grant group having ilike in initially inner
    intersect into is isnull join lateral leading left like limit localtime localtimestamp natural not
    notnull null offset on only or order outer overlaps placing primary references returning right row select
    session_user similar some symmetric system_user table tablesample then to trailing true union unique
    user using values variadic verbose when where window with"""
_RESERVED = frozenset(_RESERVED_WORDS.split())
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f]+)
      | (?P<word>[A-Za-z_][A-Za-z0-9_$]*)
      | "(?P<quoted>(?:[^"]|"")+)"
      | (?P<number>-?[0-9]+(?:\.[0-9]+)?(?![A-Za-z0-9_.$]))
      | '(?P<string>(?:[^']|'')*)'
      | (?P<symbol>(?:<=|>=|<>|!=|=|<|>)(?![-+*/<>=~!@\#%^&|`?])|\(|\)|,)""",
    re.VERBOSE,
)
_EQUALITY = frozenset({"=", "<>", "!="})
_ORDER = frozenset({"<", "<=", ">", ">="})
_CLOCK = frozenset({"now", "today", "tomorrow", "yesterday"})
_RUN = re.compile(r"[A-Za-z]+")
_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)


class _Token(NamedTuple):
    kind: str  # word, quoted, number, string, symbol, end
    text: str  # words folded to lower case, quotes undone


class _Refused(Exception):
    """An error for a filter that leaves the closed list. The argument says where, and quotes no literal."""


def provable(where: str, columns: Mapping[str, Kind | None]) -> str | None:
    """Return None if the filter's result depends only on stored bytes, else why that can't be shown.

    `columns` are the table's, by exact name. None marks a column whose type is not on the list.
    """
    try:
        reader = _FilterParser(_tokens(where), columns)
        reader.condition()
        reader.expect_end()
        _check_literals(reader.literals, dated=reader.dated)
    except _Refused as refused:
        return f"the filter {refused}"
    return None


def _tokens(where: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while position < len(where):
        match = _TOKEN.match(where, position)
        if match is None:
            raise _Refused(f"contains a character or a number outside the provable list (at {position + 1})")
        position = match.end()
        kind = str(match.lastgroup)
        text = match[kind]
        if kind == "word":
            text = text.lower()
        elif kind == "quoted":
            text = text.replace('""', '"')
        if kind != "space":
            tokens.append(_Token(kind, text))
    return [*tokens, _Token("end", "")]


def _check_literals(literals: list[str], *, dated: bool) -> None:
    """Refuse literals for which an input function can read the clock, a time zone's rules or a setting."""
    for text in literals:
        if "\\" in text:
            raise _Refused("contains a backslash in a string, whose meaning a setting decides")
        if _CLOCK & {run.lower() for run in _RUN.findall(text)}:
            raise _Refused("contains a string that can mean the present time")
        if dated and any(c.isdigit() for c in text) and not _DATE.fullmatch(text):
            raise _Refused("compares dates and contains a string that is not a plain ISO date or time")


class _FilterParser:
    """A recursive descent over: OR, AND, NOT, one predicate, operands. Each method returns the kind that it read."""

    def __init__(self, tokens: list[_Token], columns: Mapping[str, Kind | None]) -> None:
        self._tokens, self._columns, self._at = tokens, columns, 0
        self._depth = 0
        self.literals: list[str] = []
        self.dated = False

    def condition(self) -> Kind:
        kind = self._conjunction()
        while self._take("or"):
            self._conjunction()
            kind = "bool"
        return kind

    def expect_end(self) -> None:
        if self._next.kind != "end":
            raise self._unexpected()

    def _conjunction(self) -> Kind:
        kind = self._negation()
        while self._take("and"):
            self._negation()
            kind = "bool"
        return kind

    def _negation(self) -> Kind:
        negated = False
        while self._take("not"):
            negated = True
        kind = self._predicate()
        return "bool" if negated else kind

    def _predicate(self) -> Kind:
        kind, read = self._operand(), False
        while self._tail(kind):
            kind, read = "bool", True
        return "bool" if read else kind

    def _tail(self, left: Kind) -> bool:
        """Read the part after an operand, if any: a comparison, IS, IN, BETWEEN or LIKE."""
        if self._next.kind == "symbol" and self._next.text in _EQUALITY | _ORDER:
            ordered = self._advance().text in _ORDER
            right = self._operand()
            if ordered:
                _check_order(left, right)
            return True
        if self._take("is"):
            self._is()
            return True
        negated = self._take("not")
        for word, rest in (("in", self._in), ("between", self._between), ("like", self._like)):
            if self._take(word):
                rest(left)
                return True
        if negated:
            raise self._unexpected()
        return False

    def _is(self) -> None:
        self._take("not")
        if self._take("distinct"):
            self._expect("from")
            self._operand()
        elif not (self._take("null") or self._take("true") or self._take("false")):
            raise self._unexpected()

    def _in(self, left: Kind) -> None:
        self._expect("(")
        self._operand()
        while self._take(","):
            self._operand()
        self._expect(")")

    def _between(self, left: Kind) -> None:
        for word in ("and", None):
            _check_order(left, self._operand())
            if word:
                self._expect(word)

    def _like(self, left: Kind) -> None:
        self._operand()

    def _operand(self) -> Kind:
        token = self._advance()
        if token.kind == "number":
            return "number"
        if token.kind == "string":
            self.literals.append(token.text.replace("''", "'"))
            return "literal"
        if token == ("symbol", "("):
            return self._grouped()
        if token in (("word", "true"), ("word", "false")):
            return "bool"
        if token == ("word", "null"):
            return "null"
        self._at -= 1
        return self._column()

    def _grouped(self) -> Kind:
        self._depth += 1
        if self._depth > 50:
            raise _Refused("nests more than 50 parentheses")
        kind = self.condition()
        self._expect(")")
        self._depth -= 1
        return kind

    def _column(self) -> Kind:
        token = self._next
        if token.kind not in ("word", "quoted") or token.text not in self._columns:
            raise self._unexpected()
        if token.kind == "word" and token.text in _RESERVED:
            raise _Refused(f"contains the SQL keyword {token.text} (quote it if it is a column)")
        kind = self._columns[token.text]
        if kind is None:
            raise _Refused(f"uses column {token.text}, whose type is outside the provable list")
        self.dated = self.dated or kind == "datetime"
        self._advance()
        return kind

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _advance(self) -> _Token:
        token = self._next
        self._at += 1
        return token

    def _take(self, text: str) -> bool:
        """Step over a keyword or symbol if it is the next token."""
        if self._next.kind in ("word", "symbol") and self._next.text == text:
            self._at += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise self._unexpected()

    def _unexpected(self) -> _Refused:
        token = self._next
        if token.kind in ("word", "quoted", "symbol"):
            return _Refused(f"goes beyond the provable list at {token.text}")
        where = {"end": "its end", "string": "a string", "number": "a number"}[token.kind]
        return _Refused(f"goes beyond the provable list at {where}")


def _check_order(left: Kind, right: Kind) -> None:
    """Refuse to order text unless its collation is C or POSIX.

    Text sorts by a collation, and its rules come from the operating system. Only those of C and POSIX never change.
    """
    if "text" in (left, right) or {left, right} <= {"literal", "null"}:
        raise _Refused("orders text by a collation, whose rules can change")
