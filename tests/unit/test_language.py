"""The language of the sources and the documents: plain words, and docstrings that say what something does."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from fix_language import archaic_words

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
DOCUMENTS = sorted(
    path
    for folder in ("docs", "ops", "bench", "tests/formats", ".github", ".")
    for path in (ROOT / folder).glob("*.md" if folder == "." else "**/*.md")
)
RIDDLE = re.compile(r"(What|Whether|Where|How)\b")


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def docstrings(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield text


def prose(source: str) -> str:
    """Every comment and string of a module that is a text. A string of one word is a key or a name."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    texts = (token.string for token in tokens if token.type in (tokenize.COMMENT, tokenize.STRING))
    return "\n".join(text for text in texts if " " in text)


@pytest.mark.parametrize("path", SOURCES, ids=names(SOURCES))
def test_no_docstring_is_a_riddle(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert [text for text in docstrings(tree) if RIDDLE.match(text)] == []


@pytest.mark.parametrize("path", SOURCES, ids=names(SOURCES))
def test_comments_docstrings_and_messages_use_plain_words(path: Path) -> None:
    assert archaic_words(prose(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=names(DOCUMENTS))
def test_documents_use_plain_words(path: Path) -> None:
    assert archaic_words(path.read_text(encoding="utf-8")) == []


def test_the_words_are_found() -> None:
    """A list that matches nothing would pass everything."""
    found = archaic_words("The table is made anew. It stands alone.")
    assert len(found) == 3 and found[0].startswith("The table is made anew")
    assert archaic_words("a standalone `anew`, a long-standing one") == []


def test_the_readme_s_first_screen_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    first = text.split("\n\n")[1].split(". ")[0].split(".\n")[0]
    assert len(first.split()) < 20, first
    assert [line for line in text.splitlines() if len(line) > 100] == []
