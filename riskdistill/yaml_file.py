"""Reads a YAML file of settings into a pydantic model, and reports every mistake in it at once, each with its line.

Each mistake is one line: `file:line: dotted.key: what is wrong`. YAML is read by the 1.2 core rules (`1e-3` is a
number, `no` is text, a date is text until the schema reads it), and without aliases: every key then stands on
exactly one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from riskdistill.errors import ConfigError

Key = tuple[str | int, ...]  # ("boosted_trees", "candidates", 0, "rounds")
Origins = dict[Key, str]  # where each key was written: "file:line", or what put it there instead
Model = TypeVar("Model", bound=BaseModel)


class Hints(NamedTuple):
    """How to mend a file that is not there, or that states nothing."""

    absent: str
    empty: str


def read_settings(path: Path, schema: type[Model], hints: Hints) -> Model:
    """The settings of kind `schema` that the file at `path` states.

    Raises:
        ConfigError: its text lists all the mistakes, one a line.
    """
    origins: Origins = {(): str(path)}
    mistakes: list[str] = []
    values = read_mapping(path, origins, mistakes, hints)
    try:
        settings = None if values is None else schema.model_validate(values)
    except ValidationError as error:
        mistakes += explained(error, origins, schema)
    if mistakes or settings is None:
        raise ConfigError("\n".join(mistakes))
    return settings


class Loader(yaml.SafeLoader):
    """SafeLoader with the implicit types of the YAML 1.2 core schema, and without aliases."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - replaces PyYAML's own class attribute

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None, None, "aliases are not supported, write the value out", self.current_event.start_mark
            )
        return super().compose_node(parent, index)


_EXPONENT = r"[eE][-+]?[0-9]+"
for _tag, _pattern, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", list("tf")),
    ("int", r"[-+]?(0|[1-9][0-9]{0,17})", list("-+0123456789")),
    ("float", rf"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)({_EXPONENT})?|[-+]?[0-9]+{_EXPONENT}", list("-+.0123456789")),
    ("float", r"[-+]?\.inf|\.nan", list("-+.")),
):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def read_mapping(path: Path, origins: Origins, mistakes: list[str], hints: Hints) -> dict[Any, Any] | None:
    """The file's mapping, its keys' lines noted in `origins`; None and a mistake noted where it has none."""
    try:
        text = path.read_text(encoding="utf-8")
        loader = Loader(text)
        node = loader.get_single_node()
        values = loader.construct_document(node) if node else None
    except FileNotFoundError:
        mistakes.append(f"{path}: no such file ({hints.absent})")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        mistakes.append(f"{path}: cannot be read: {reason}")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        mistakes.append(f"{path}{place}: not valid YAML: {error.problem or error.context}")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mistakes.append(f"{path}: not valid YAML: {' '.join(str(error).split())}")
    else:
        if isinstance(values, dict) and node:
            mistakes += _noted(node, (), path, origins)
            return values
        found = "is empty" if values is None else f"holds a {type(values).__name__}, not keys and values"
        mistakes.append(f"{path}: {found} (mend: {hints.empty})")
    return None


def _noted(node: yaml.Node, key: Key, path: Path, origins: Origins) -> Iterator[str]:
    """Notes the line of every key below `node` in `origins`; yields a mistake for each key written twice."""
    if isinstance(node, yaml.MappingNode):
        first_line: dict[str, int] = {}
        for name, value in node.value:
            line = name.start_mark.line + 1
            if name.value in first_line:
                first = first_line[name.value]
                yield f"{path}:{line}: {dotted((*key, name.value))}: written twice, first on line {first}"
                continue
            first_line[name.value] = line
            below = (*key, part_of(name.value))
            origins[below] = f"{path}:{line}"
            yield from _noted(value, below, path, origins)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            origins[(*key, index)] = f"{path}:{item.start_mark.line + 1}"
            yield from _noted(item, (*key, index), path, origins)


def part_of(text: str) -> str | int:
    """One part of a key: digits number a list's item."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


def explained(error: ValidationError, origins: Origins, schema: type[BaseModel]) -> list[str]:
    """Pydantic's findings as mistakes, in the order of the file."""
    found: list[tuple[int, str]] = []
    order = {place: rank for rank, place in enumerate(origins.values())}
    for detail in error.errors(include_url=False):
        key: Key = detail["loc"]
        place = next(origins[key[:end]] for end in range(len(key), -1, -1) if key[:end] in origins)
        found.append((order[place], f"{place}: {dotted(key)}: {_message(key, detail, schema)}"))
    return [text for _, text in sorted(found, key=lambda item: item[0])]


def _message(key: Key, detail: Any, schema: type[BaseModel]) -> str:
    """One finding in words, with the nearest known key or the value that was given."""
    if detail["type"] == "extra_forbidden":
        known = _known_keys(key[:-1], schema)
        close = get_close_matches(str(key[-1]), known, n=1)
        return f"unknown key, did you mean '{close[0]}'?" if close else f"unknown key, known: {', '.join(known)}"
    if detail["type"] == "missing":
        return "is required"
    text = detail["msg"].removeprefix("Value error, ")
    text = text.replace("Input should", "should", 1)
    given = detail["input"]
    shown = "" if detail["type"] == "value_error" or isinstance(given, dict | list) else f", is {given!r}"
    return f"{text[:160]}{shown[:80]}"


def _known_keys(key: Key, section: type[BaseModel]) -> list[str]:
    """The keys that the section at `key` below `section` knows."""
    for part in key:
        if isinstance(part, str):
            annotation = section.model_fields[part].annotation
            inner = [annotation, *get_args(annotation)]
            section = next(kind for kind in inner if isinstance(kind, type) and issubclass(kind, BaseModel))
    return [str(field.serialization_alias or name) for name, field in section.model_fields.items()]


def dotted(key: Key) -> str:
    """`key` as it is written on the command line."""
    return ".".join(str(part) for part in key)
