"""The YAML of a configuration file, read more strictly than PyYAML does. No error quotes a value of the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from floodmark.config.shown import CONFIG_REFUSED, shown_key
from floodmark.errors import ConfigError

_QUOTES = "Put a value in quotes if it contains any of : # { } [ ] , & * ! | > % @ ` or a quote."


def parse_yaml(text: str, path: Path) -> Any:
    """Return the content of a YAML text. Raises ConfigError, also for a key that occurs twice."""
    with _translated(text, path, CONFIG_REFUSED):
        loader = yaml.SafeLoader(text)
        node = _single_node(loader, path, CONFIG_REFUSED)
        if node is None:
            return None
        _read_keys_as_words(node, set())
        return loader.construct_document(node)


def compose_yaml(text: str, path: Path, what: str) -> yaml.Node | None:
    """Return the nodes of a YAML text, which know their lines, or None if it is empty.

    Raises ConfigError, also for a key that occurs twice. `what` is the error's first part.
    """
    with _translated(text, path, what):
        return _single_node(yaml.SafeLoader(text), path, what)


def _single_node(loader: yaml.SafeLoader, path: Path, what: str) -> yaml.Node | None:
    node: yaml.Node | None = loader.get_single_node()
    if node is not None:
        _require_unique_keys(node, path, set(), what)
    return node


@contextmanager
def _translated(text: str, path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        raise ConfigError(what, on=where, why="not valid YAML", hint=_QUOTES) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        where = f"{path}, line {line}, column {error.position - text.rfind(chr(10), 0, error.position)}"
        raise ConfigError(
            what, on=where, why="it contains a character that YAML does not allow", hint=_QUOTES
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        why = f"not valid YAML ({type(error).__name__})"
        raise ConfigError(what, on=str(path), why=why, hint=_QUOTES) from None


def _require_unique_keys(node: yaml.Node, path: Path, seen: set[int], what: str) -> None:
    """Refuse a key that occurs twice in one mapping: PyYAML would silently take the last."""
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    keys: set[str] = set()
    for item in node.value:
        if isinstance(node, yaml.MappingNode) and isinstance(item[0], yaml.ScalarNode):
            key, line = item[0].value, item[0].start_mark.line + 1
            if key in keys:
                hint = f"Merge both under one {shown_key(key)}."
                why = f"the key {shown_key(key)} appears twice"
                raise ConfigError(what, on=f"{path}, line {line}", why=why, hint=hint)
            keys.add(key)
        for child in item if isinstance(node, yaml.MappingNode) else (item,):
            _require_unique_keys(child, path, seen, what)


def _read_keys_as_words(node: yaml.Node, seen: set[int]) -> None:
    """Let a key such as `on` be a word: YAML 1.1 reads it as true, and later versions as text."""
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    for item in node.value:
        if isinstance(node, yaml.MappingNode) and item[0].tag == "tag:yaml.org,2002:bool":
            item[0].tag = "tag:yaml.org,2002:str"
        for child in item if isinstance(node, yaml.MappingNode) else (item,):
            _read_keys_as_words(child, seen)
