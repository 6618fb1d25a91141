"""The check of commit subjects: `area: imperative summary`, at most 72 characters. CONTRIBUTING.md describes it.

    python tests/commits.py FILE         the message in FILE, as Git's hook commit-msg gives it
    python tests/commits.py --since REV  every commit after REV

It needs nothing but Python and Git, so that it runs before anything is installed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

LONGEST = 72
_SUBJECT = re.compile(r"[a-z0-9][\w./+-]*(?:, [a-z0-9][\w./+-]*)*: [a-z].*")
_MADE_BY_GIT = ("Merge ", 'Revert "', 'Reapply "')
_FOR_LATER = ("fixup! ", "squash! ", "amend! ")
_SCISSORS = "# ------------------------ >8 ------------------------"


def problem(message: str) -> str | None:
    """Return why a commit's message is refused, or None if it is fine. Git's own subjects are fine."""
    subject, *rest = message.split("\n")
    if subject.startswith(_MADE_BY_GIT):
        return None
    if len(subject) > LONGEST:
        return f"the subject has {len(subject)} characters; at most {LONGEST} are allowed"
    if not _SUBJECT.fullmatch(subject):
        return "the subject must read `area: summary`, both in lower case, such as `s3: retry SlowDown with jitter`"
    if subject != subject.rstrip(" .") or "  " in subject:
        return "the subject must not end with a full stop or a blank, or contain two blanks in a row"
    if rest and rest[0]:
        return "an empty line must follow the subject"
    return None


def written(text: str) -> str:
    """Return the message that Git will keep of a file that a person edited: no comments, no empty lines around it."""
    kept = text.split(f"{_SCISSORS}\n")[0].splitlines()
    return "\n".join(line.rstrip() for line in kept if not line.startswith("#")).strip("\n")


def messages_since(revision: str) -> list[tuple[str, str]]:
    """Return the short hash and the message of each commit after a revision, oldest first."""
    command = ["git", "log", "--reverse", "--no-merges", "--format=%h%n%B%x00", f"{revision}..HEAD", "--"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    commits = (one.strip("\n").partition("\n") for one in text.split("\0") if one.strip())
    return [(name, message) for name, _, message in commits]


def main(arguments: list[str]) -> int:
    """Check one message or many; print what is wrong with each, and return the exit code."""
    if len(arguments) == 2 and arguments[0] == "--since":
        messages = messages_since(arguments[1])
    elif len(arguments) == 1 and not arguments[0].startswith("-"):
        message = written(Path(arguments[0]).read_text(encoding="utf-8"))
        if not message or message.startswith(_FOR_LATER):  # Git refuses the empty one itself; the other is temporary
            return 0
        messages = [("this commit", message)]
    else:
        print(__doc__, file=sys.stderr)
        return 2
    refused = [(name, message, why) for name, message in messages if (why := problem(message)) is not None]
    for name, message, why in refused:
        print(f"{name}: {why}\n  {message.splitlines()[0]}", file=sys.stderr)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
