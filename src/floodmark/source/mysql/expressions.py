"""Expressions, of filters and of generated columns, whose values depend only on their row.

A chunk's lines and its digest come from two statements. If the time, chance or a stored function shapes a value, the
digest can cover other values than the lines. A later run would then find the same digest, and keep the wrong lines. So
only known functions count, and everything else is in doubt.
"""

from __future__ import annotations

import re
from collections.abc import Set

# In the order of their beginnings: a quote in a comment begins no text.
_QUOTED = re.compile(
    r"""'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|`(?P<name>(?:[^`]|``)*)`|/\*.*?\*/|--[ \t].*?$|\#.*?$""",
    re.DOTALL | re.MULTILINE,
)
_NAME = "\x00"  # in the place of a name in backticks
_EXECUTED_COMMENT = re.compile(r"/\*M?!")
_WORD = re.compile(r"[\w$]+")
# A name before a parenthesis. With a blank between them, or with its schema, it can be a stored function's.
_CALLED = re.compile(rf"([\w$]+|{_NAME})(\s*)\(")
_QUALIFIED = re.compile(rf"\.\s*(?:[\w$]+|{_NAME})\s*\(")
# A clock without parentheses, a sequence, a variable, or a time of day.
_UNSETTLED = re.compile(r"\b(?:CURRENT_\w+|LOCALTIME\w*|UTC_\w+|SYSDATE|TIME|NEXT|PREVIOUS)\b|@", re.IGNORECASE)
_OPERATORS = frozenset(
    {
        "and", "as", "between", "binary", "by", "case", "div", "else", "in", "interval", "is", "like", "mod",
        "not", "null", "or", "regexp", "rlike", "then", "when", "xor",
    }
)  # fmt: skip
# Without those that give a time of day: compared with a date, it means one of the present day.
_FUNCTIONS = frozenset(
    {
        "abs", "ascii", "bin", "bit_count", "bit_length", "cast", "ceil", "ceiling", "char", "char_length",
        "character_length", "coalesce", "concat", "concat_ws", "conv", "convert", "crc32", "date", "date_add",
        "date_format", "date_sub", "datediff", "datetime", "day", "dayname", "dayofmonth", "dayofweek",
        "dayofyear", "decimal", "elt", "exp", "export_set", "extract", "field", "find_in_set", "floor",
        "format", "from_base64", "from_days", "from_unixtime", "greatest", "hex", "hour", "if", "ifnull",
        "inet6_aton", "inet6_ntoa", "inet_aton", "inet_ntoa", "insert", "instr", "isnull", "json_array",
        "json_contains", "json_contains_path", "json_depth", "json_exists", "json_extract", "json_keys",
        "json_length", "json_object", "json_query", "json_quote", "json_type", "json_unquote", "json_valid",
        "json_value", "last_day", "lcase", "least", "left", "length", "ln", "locate", "log", "log10", "log2",
        "lower", "lpad", "ltrim", "makedate", "md5", "microsecond", "mid", "minute", "month", "monthname",
        "nullif", "nvl", "nvl2", "octet_length", "ord", "period_add", "period_diff", "pi", "position", "pow",
        "power", "quarter", "quote", "regexp_instr", "regexp_replace", "regexp_substr", "repeat", "replace",
        "reverse", "right", "round", "rpad", "rtrim", "second", "sha", "sha1", "sha2", "sign", "space", "sqrt",
        "strcmp", "substr", "substring", "substring_index", "to_base64", "to_days", "trim", "truncate", "ucase",
        "unhex", "upper", "varchar", "week", "weekday", "weekofyear", "year", "yearweek",
    }
)  # fmt: skip


def is_settled(expression: str, times: Set[str]) -> bool:
    """Return True if the value depends only on its row.

    `times` are the names of the table's columns of the type time. Compared with a date, such a value means a time of
    the present day.
    """
    bare = _QUOTED.sub(_without_quotes, expression)
    if _EXECUTED_COMMENT.search(expression) or _UNSETTLED.search(bare) or _QUALIFIED.search(bare):
        return False
    quoted = {found["name"].replace("``", "`") for found in _QUOTED.finditer(expression) if found["name"] is not None}
    words = {word.casefold() for word in (*_WORD.findall(bare), *quoted)}
    calls = ((name.casefold(), blank) for name, blank in _CALLED.findall(bare))
    return not words & {name.casefold() for name in times} and all(
        name in _OPERATORS or (name in _FUNCTIONS and not blank) for name, blank in calls
    )


def _without_quotes(found: re.Match[str]) -> str:
    return " " if found["name"] is None else _NAME
