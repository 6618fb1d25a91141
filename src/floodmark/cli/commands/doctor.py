"""`floodmark doctor`: the findings as they come, for a person, or all of them as JSON."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

from msgspec import Struct
from rich.text import Text

from floodmark.cli.output.grid import wrap
from floodmark.cli.output.streams import CommandStreams, console
from floodmark.cli.output.terminal import broken
from floodmark.cli.settings import flags
from floodmark.doctor import Finding, examine
from floodmark.errors import EXIT_OK
from floodmark.escaping import printable
from floodmark.wording import plural

_WORDS = {"ok": "ok", "warning": "warning", "problem": "problem", "unknown": "unchecked"}
_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red", "unknown": "cyan"}
_WIDTH = max(map(len, _WORDS.values()))
_CHECK_WIDTH = 28
_NARROW, _NARROW_CHECK_WIDTH = 100, 22  # on a terminal with fewer columns; the finding begins below a longer name
_MIN_ROOM = 30  # columns for a finding, however narrow the terminal is


class DoctorDocument(Struct, frozen=True, kw_only=True):
    """The JSON document of `floodmark doctor`."""

    checks: tuple[Finding, ...]
    exit_code: int


def doctor(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Check a run's prerequisites. The exit code is that of the first problem."""
    found = examine(flags(options), streams.environ)
    findings = list(found) if options.output == "json" else _shown(found, streams)
    code = next((one.exit_code for one in findings if one.result == "problem"), EXIT_OK)
    if options.output == "json":
        streams.print_json(DoctorDocument(checks=tuple(findings), exit_code=code))
    else:
        streams.out.write(wrap(summary(findings), console(streams.out, streams.environ)))
    return code


def _shown(found: Iterable[Finding], streams: CommandStreams) -> list[Finding]:
    to = console(streams.out, streams.environ)
    findings = []
    for one in found:
        text = Text(f"{_WORDS[one.result]:<{_WIDTH}}", style=_STYLES[one.result])
        lines = _lines(one, to.width if to.is_terminal else None)
        to.print(text.append("  " + "\n".join(lines), style="default"), soft_wrap=True)
        findings.append(one)
    return findings


def _lines(one: Finding, width: int | None) -> list[str]:
    """Return the check's name with the finding, and the fix below it, wrapped at a terminal's width."""
    name_width = _NARROW_CHECK_WIDTH if width is not None and width < _NARROW else _CHECK_WIDTH
    margin = " " * (_WIDTH + name_width + 4)
    room = None if width is None else max(width - len(margin), _MIN_ROOM)
    texts = [text for line in one.found.split("\n") for text in broken(printable(line), room)]
    fixes = [] if one.fix is None else one.fix.split("\n")
    texts += [text for line in fixes for text in broken(f"→ {printable(line)}", room, indent="  ")]
    name = printable(one.check)
    if width is not None and len(name) > name_width:
        return [name, *(f"{margin}{text}" for text in texts)]
    return [f"{name:<{name_width}}  {texts[0]}", *(f"{margin}{text}" for text in texts[1:])]


def summary(findings: Sequence[Finding]) -> str:
    """Return one line that sums up the findings."""
    results = [one.result for one in findings]
    parts = [f"{results.count('ok')} ok"]
    parts += [plural(results.count(one), one) for one in ("warning", "problem") if one in results]
    parts += [f"{results.count('unknown')} could not be checked"] if "unknown" in results else []
    end = "Not ready to run: fix the problems first." if "problem" in results else "Ready to run."
    return f"{', '.join(parts)}. {end}"
