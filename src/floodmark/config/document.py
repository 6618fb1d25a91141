"""The way from a YAML file to a checked `schema.File`, or to an error that names the place and the fix.

No error quotes a value or a line of the file: any of them can hold a password. A key is quoted only if it looks like a
key.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

import msgspec
import yaml
from msgspec import Meta, Struct

from floodmark.config import schema
from floodmark.errors import ConfigError

CONFIG_REFUSED = "can't use this configuration"
_SHOWABLE_KEY = re.compile(r"[^\x00-\x1f\x7f-\x9f:/@=]{1,80}\Z")
_PLAIN_KEY = re.compile(r"[\w.-]+\Z")
_QUOTES = "Put a value in quotes if it contains any of : # { } [ ] , & * ! | > % @ ` or a quote."


def read_config(path: Path) -> schema.ConfigFile:
    """Return the file at `path`, checked for shape and type. Raises ConfigError."""
    raw = _parse_yaml(_read_text(path), path)
    result = _Checker(str(path)).struct(schema.ConfigFile, {} if raw is None else raw, "")
    assert isinstance(result, schema.ConfigFile)
    return result


def shown_key(key: object) -> str:
    """Return a key for an error: quoted if it is no plain word, hidden if it might be a value."""
    if not isinstance(key, str):
        return f"({_yaml_name(key)})"
    if not _SHOWABLE_KEY.match(key):
        return "(a key that is not shown)"
    return key if _PLAIN_KEY.match(key) else f'"{key}"'


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return `Did you mean …? ` with the closest of the known words, or an empty text."""
    close = difflib.get_close_matches(word, list(known), 1, 0.6) if isinstance(word, str) else []
    return f"Did you mean {close[0]}? " if close else ""


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            CONFIG_REFUSED, on=str(path), why="the file does not exist", hint="Check the path given with --config."
        ) from None
    except OSError as error:
        raise ConfigError(
            CONFIG_REFUSED,
            on=str(path),
            why=f"it can't be read ({error.strerror})",
            hint="Make the file readable, or name another one with --config.",
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            CONFIG_REFUSED, on=str(path), why=f"byte {error.start} is not UTF-8", hint="Save the file as UTF-8."
        ) from None


def _parse_yaml(text: str, path: Path) -> Any:
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _require_unique_keys(node, path, set())
        _read_keys_as_words(node, set())
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        raise ConfigError(CONFIG_REFUSED, on=where, why="not valid YAML", hint=_QUOTES) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        where = f"{path}, line {line}, column {error.position - text.rfind(chr(10), 0, error.position)}"
        raise ConfigError(
            CONFIG_REFUSED, on=where, why="it contains a character that YAML does not allow", hint=_QUOTES
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        why = f"not valid YAML ({type(error).__name__})"
        raise ConfigError(CONFIG_REFUSED, on=str(path), why=why, hint=_QUOTES) from None


def _require_unique_keys(node: yaml.Node, path: Path, seen: set[int]) -> None:
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
                raise ConfigError(CONFIG_REFUSED, on=f"{path}, line {line}", why=why, hint=hint)
            keys.add(key)
        for child in item if isinstance(node, yaml.MappingNode) else (item,):
            _require_unique_keys(child, path, seen)


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


class _Checker:
    """A walk through a parsed document along the schema, so that every error can name its dotted path."""

    def __init__(self, file: str) -> None:
        self.file = file

    def struct(self, kind: type[Struct], value: Any, path: str) -> Struct:
        """Return a section: known keys only, and keys without a value stay unset."""
        kinds = schema.field_kinds(kind)
        given = {}
        for key, inner in self._mapping(value, path).items():
            if key not in kinds:
                self._refuse_unknown(key, path, kinds)
            if inner is not None:
                given[key] = self.value(kinds[key], inner, _join_path(path, key))
        return kind(**given)

    def value(self, kind: Any, value: Any, path: str) -> Any:
        """Return the value of a key: a section, a mapping of the user's names, a list, or a single value."""
        if schema.is_struct(kind):
            return self.struct(kind, value, path)
        if get_origin(kind) is dict:
            inner = get_args(kind)[1]
            return {k: self._named(inner, v, _join_path(path, k)) for k, v in self._mapping(value, path).items()}
        if get_origin(kind) is tuple:
            if not isinstance(value, list):
                self.refuse(path, f"expected a list, not {_yaml_name(value)}", f"Write {_last_key(path)}: [ … ].")
            inner = get_args(kind)[0]
            return tuple(self.value(inner, item, f"{path}[{number}]") for number, item in enumerate(value))
        return self._convert_single(kind, value, path)

    def refuse(self, path: str, why: str, hint: str) -> NoReturn:
        raise ConfigError(CONFIG_REFUSED, on=f"{path or 'the top level'} ({self.file})", why=why, hint=hint)

    def _named(self, kind: Any, value: Any, path: str) -> Any:
        if value is None:  # an empty rule, or the mask `null`, which YAML reads as no value
            return kind() if schema.is_struct(kind) else "null"
        return self.value(kind, value, path)

    def _mapping(self, value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.refuse(path, f"expected keys, not {_yaml_name(value)}", "Write each as `key: value`, indented.")
        for key in value:
            if not isinstance(key, str):
                why = f"a key is {_yaml_name(key)}, not text"
                self.refuse(path, why, 'Put it in quotes: YAML reads null and 1 as something else, "1" as text.')
        return value

    def _refuse_unknown(self, key: str, path: str, known: Iterable[str]) -> NoReturn:
        name = _join_path(path, key)
        takes = f"{path or 'The file'} takes: {', '.join(known)}."
        self.refuse(name, "unknown key", f"{did_you_mean(key, known)}{takes}")

    def _convert_single(self, kind: Any, value: Any, path: str) -> Any:
        try:
            return msgspec.convert(value, kind, strict=True)
        except msgspec.ValidationError:
            self._refuse_type(kind, value, path)

    def _refuse_type(self, kind: Any, value: Any, path: str) -> NoReturn:
        wanted = schema.ACCEPTED.get(_last_key(path)) or _accepted_values(kind)
        options = get_args(kind) if get_origin(kind) is Literal else ()
        if options and isinstance(value, str):
            self.refuse(path, "not a valid value", f"{did_you_mean(value, options)}Use {wanted}.")
        quote = "Put the value in quotes." if kind is str else f"Write {wanted} after {_last_key(path)}:"
        given = _side_of_bounds(kind, value) if type(value) is int else None
        self.refuse(path, f"expected {wanted}, not {given or _yaml_name(value)}", quote)


def _join_path(path: str, key: object) -> str:
    return f"{path}.{shown_key(key)}" if path else shown_key(key)


def _last_key(path: str) -> str:
    return path.rpartition(".")[2]


def _accepted_values(kind: Any) -> str:
    """Return the accepted values of a key, for a person."""
    if get_origin(kind) is Literal:
        return " or ".join((", ".join(get_args(kind)[:-1]), get_args(kind)[-1])).removeprefix(" or ")
    bounds = _bounds_of(kind)
    if bounds is not None:
        return f"a whole number from {bounds.ge} to {bounds.le}"
    if kind is bool:
        return "true or false"
    return "text" if kind is str else "a number or text with a unit"


def _bounds_of(kind: Any) -> Meta | None:
    return next((meta for meta in getattr(kind, "__metadata__", ()) if isinstance(meta, Meta)), None)


def _side_of_bounds(kind: Any, value: int) -> str | None:
    """Return the side of a key's bounds on which a whole number lies."""
    bounds = _bounds_of(kind)
    if bounds is None or bounds.ge is None:
        return None
    return "a smaller one" if value < bounds.ge else "a larger one"


def _yaml_name(value: object) -> str:
    """Return the kind of a YAML value, for a person; never the value."""
    if value is None:
        return "nothing"
    names: tuple[tuple[type, str], ...] = (
        (bool, "true or false"),
        (int, "a whole number"),
        (float, "a fraction"),
        (str, "text"),
        (list, "a list"),
        (dict, "a section with keys"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), f"a {type(value).__name__}")
