"""Values that are more than a word or a number: sizes, durations, and row filters."""

from __future__ import annotations

import re

_SIZES = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = re.compile(r"(\d{1,15}) ?([A-Za-z]*)\Z", re.ASCII)
_DURATION = re.compile(r"(?:\d{1,9}[smhd])+\Z", re.ASCII)

_SHARE = re.compile(r"(100|\d{1,2}) ?%?\Z", re.ASCII)
ACCEPT = "accept"

# The texts that the parsers below accept, for a JSON Schema. Only \s, [0-9] and syntax that every dialect shares.
SIZE_PATTERN = rf"^\s*[0-9]{{1,15}} ?(?:{'|'.join(unit for unit in _SIZES if unit)})?\s*$"
DURATION_PATTERN = rf"^\s*(?:[0-9]{{1,9}}|(?:[0-9]{{1,9}}[{''.join(_SECONDS)}])+)\s*$"
PERCENTAGE_PATTERN = r"^\s*(?:100(?:\.0{1,3})?|[0-9]{1,2}(?:\.[0-9]{1,3})?) ?%?\s*$"
SHARE_PATTERN = rf"^\s*(?:(?:100|[0-9]{{1,2}}) ?%?|{ACCEPT})\s*$"

# Receivers in AWS, by their ARN.
TOPIC_ARN = re.compile(r"arn:aws[\w-]*:sns:[a-z0-9-]+:\d{12}:(?P<name>[A-Za-z0-9_-]{1,256}(\.fifo)?)\Z", re.ASCII)
BUS_ARN = re.compile(r"arn:aws[\w-]*:events:[a-z0-9-]+:\d{12}:event-bus/[A-Za-z0-9/._-]{1,256}\Z", re.ASCII)

MIN_CHUNK, MAX_CHUNK = 8 * 1024, 4 * 1024**3
MAX_GRACE = 3650 * 86400
MAX_SECONDS = 2_147_483  # PostgreSQL keeps time limits as 32-bit milliseconds
MAX_SNAPSHOT_AGE = 86_400  # well below the two days after which a run counts as dead


def parse_size(value: int | str) -> int:
    """Return bytes from `64MiB`, `8KiB`, `1GiB` or a number of bytes. Raises ValueError with the reason."""
    match = _SIZE.match(str(value).strip())
    if match is None or match[2] not in _SIZES:
        raise ValueError("expected a size such as 64MiB (units: B, KiB, MiB, GiB)")
    return int(match[1]) * _SIZES[match[2]]


def parse_duration(value: int | str) -> int:
    """Return seconds from `4h`, `90s`, `1h30m`, `2d` or a number of seconds. Raises ValueError with the reason."""
    text = str(value).strip()
    if re.fullmatch(r"\d{1,9}", text, re.ASCII):
        return int(text)
    if not _DURATION.match(text):
        raise ValueError("expected a duration such as 90s, 15m or 4h (units: s, m, h, d)")
    return sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"(\d+)([smhd])", text))


def parse_share(value: int | str) -> int | None:
    """Return a percentage from `50%` or a number, or None for `accept`. Raises ValueError with the reason."""
    text = str(value).strip()
    if text == ACCEPT:
        return None
    match = _SHARE.match(text)
    if match is None:
        raise ValueError("expected a percentage such as 50%, or accept")
    return int(match[1])


def parse_percentage(value: int | str) -> float:
    """Return a percentage from `2%`, `0.5%` or a number. Raises ValueError with the reason."""
    text = str(value).strip()
    if not re.match(PERCENTAGE_PATTERN.replace("$", r"\Z"), text, re.ASCII):
        raise ValueError("expected a percentage such as 2% or 0.5%")
    return float(text.rstrip("% "))


# The filter is refused, not parsed, if a literal, an identifier or a comment in it might end elsewhere than it seems.
_TOKEN = re.compile(
    r"""(?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*")"""
    r"""|(?P<word>[^\W\d][\w$]*|\d[\w.]*)"""
    r"""|(?P<bad>--|/\*|\*/|[;'"$\\\x00])"""
    r"""|(?P<bracket>[()])|(?P<other>.)""",
    re.DOTALL,
)
_BAD = {
    ";": "it contains a semicolon",
    "--": "it contains a comment",
    "/*": "it contains a comment",
    "*/": "it contains a comment",
    "'": "a string literal does not end",
    '"': "a quoted name does not end",
    "$": "it contains a $, as in dollar quoting or a parameter",
    "\\": "it contains a backslash outside a string literal",
    "\x00": "it contains a zero byte",
}


def filter_problem(condition: str) -> str | None:
    """Return why a row filter can't be one SQL condition, or None if it looks like one.

    This catches slips, such as a comment that hides the rest. It proves nothing about the filter.
    """
    if not condition.strip():
        return "it is empty"
    if "\\'" in condition:
        return "it contains a backslash before a quote, and servers read that differently"
    depth = 0
    for token in _TOKEN.finditer(condition):
        if token["bad"]:
            return _BAD[token["bad"]]
        depth += {"(": 1, ")": -1}.get(token["bracket"] or "", 0)
        if depth < 0:
            return "a closing parenthesis has no opening one"
    return "an opening parenthesis has no closing one" if depth else None
