"""The way from a YAML file to a checked `schema.File`, or to an error that names the place and the fix.

No error quotes a value or a line of the file: any of them can hold a password. A key is quoted only if it looks like a
key.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from floodmark.config import schema
from floodmark.config.shown import CONFIG_REFUSED, shown_key, yaml_kind
from floodmark.errors import ConfigError


def read_config(path: Path) -> schema.ConfigFile:
    """Return the file at `path`, checked for shape and type. Raises ConfigError."""
    from floodmark.config.yaml_text import parse_yaml  # noqa: PLC0415 - by need: a run without a file needs no YAML

    raw = parse_yaml(_read_text(path), path)
    result = _Checker(str(path)).struct(schema.ConfigFile, {} if raw is None else raw, "")
    assert isinstance(result, schema.ConfigFile)
    return result


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return `Did you mean …? ` with the closest of the known words, or an empty text."""
    import difflib  # noqa: PLC0415 - by need: only an error asks

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
            if inner is None and schema.is_struct(kinds[key]):
                inner = {}  # a section without keys is one with the defaults
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
                self.refuse(path, f"expected a list, not {yaml_kind(value)}", f"Write {_last_key(path)}: [ … ].")
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
            self.refuse(path, f"expected keys, not {yaml_kind(value)}", "Write each as `key: value`, indented.")
        for key in value:
            if not isinstance(key, str):
                why = f"a key is {yaml_kind(key)}, not text"
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
        self.refuse(path, f"expected {wanted}, not {given or yaml_kind(value)}", quote)


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
