"""Reads an experiment's YAML file and `--set` overrides, and reports every mistake in them at once.

Each mistake is one line: `file:line: dotted.key: what is wrong`, with `--set a.b=c` in the place of file and
line where an override made it. YAML is read by the 1.2 core rules (`1e-3` is a number, `no` is text, a date
is text until the schema reads it), and without aliases: every key then stands on exactly one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from riskdistill.config.schema import ExperimentConfig
from riskdistill.errors import ConfigError

Key = tuple[str | int, ...]  # ("boosted_trees", "candidates", 0, "rounds")
Origins = dict[Key, str]  # where each key was written: "file:line" or "--set a.b=c"


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """The experiment that the file at `path` describes, with `overrides` applied in order.

    Args:
        path: a YAML file with the keys of `ExperimentConfig`.
        overrides: `a.b=value` texts; the value is read as YAML, and a number in the key picks a list's item
            (`distillation.terms.0.weight=0.5`).

    Raises:
        ConfigError: its text lists all the mistakes, one a line.
    """
    mistakes: list[str] = []
    origins: Origins = {(): str(path)}
    values = _read(Path(path), origins, mistakes)
    if values is None:
        raise ConfigError("\n".join(mistakes))
    for override in overrides:
        try:
            apply_override(override, values, origins, ExperimentConfig(name="default").model_dump())
        except ValueError as error:
            mistakes.append(f"--set {override}: {error}")
    try:
        config = ExperimentConfig.model_validate(values)
    except ValidationError as error:
        mistakes += _explained(error, origins)
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return config


class _Loader(yaml.SafeLoader):
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
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def _read(path: Path, origins: Origins, mistakes: list[str]) -> dict[Any, Any] | None:
    """The file's mapping, its keys' lines noted in `origins`; None and a mistake noted where it has none."""
    try:
        text = path.read_text(encoding="utf-8")
        loader = _Loader(text)
        node = loader.get_single_node()
        values = loader.construct_document(node) if node else None
    except FileNotFoundError:
        mistakes.append(f"{path}: no such file (the experiments are in configs/)")
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
        mistakes.append(f"{path}: {found} (mend: state at least 'name: my-experiment')")
    return None


def _noted(node: yaml.Node, key: Key, path: Path, origins: Origins) -> Iterator[str]:
    """Notes the line of every key below `node` in `origins`; yields a mistake for each key written twice."""
    if isinstance(node, yaml.MappingNode):
        first_line: dict[str, int] = {}
        for name, value in node.value:
            line = name.start_mark.line + 1
            if name.value in first_line:
                first = first_line[name.value]
                yield f"{path}:{line}: {_dotted((*key, name.value))}: written twice, first on line {first}"
                continue
            first_line[name.value] = line
            below = (*key, _part(name.value))
            origins[below] = f"{path}:{line}"
            yield from _noted(value, below, path, origins)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            origins[(*key, index)] = f"{path}:{item.start_mark.line + 1}"
            yield from _noted(item, (*key, index), path, origins)


def apply_override(override: str, values: dict[Any, Any], origins: Origins, default: Any) -> None:
    """Set one `a.b=c` in `values`.

    Args:
        origins: where each key was written; that of the new one is noted.
        default: the values where `values` is silent, so that one item of a default list can change.

    Raises:
        ValueError: it says why it cannot be.
    """
    name, equals, text = override.partition("=")
    key: Key = tuple(map(_part, name.strip().split(".")))
    if not equals or "" in key:
        raise ValueError("write it as key.key=value")
    try:
        value = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"the value is not valid YAML: {getattr(error, 'problem', error)}") from None
    target: Any = values
    for depth, part in enumerate(key):
        default = _child(default, part)
        kind: Any = list if isinstance(part, int) else dict
        if not isinstance(target, kind):
            wanted = "list" if kind is list else "section"
            raise ValueError(f"{_dotted(key[:depth]) or 'the experiment'} is not a {wanted}")
        if isinstance(part, int) and part >= len(target):
            raise ValueError(f"{_dotted(key[:depth])} has {len(target)} items, counted from 0")
        if depth < len(key) - 1 and _child(target, part) is not None:
            target = _child(target, part)
            continue
        item = list(default) if isinstance(default, tuple | list) else {}
        target[part] = value if depth == len(key) - 1 else item
        target = item
        origins.setdefault(key[: depth + 1], f"--set {override}")
    for below in [known for known in origins if known[: len(key)] == key]:
        del origins[below]
    origins[key] = f"--set {override}"


def _part(text: str) -> str | int:
    """One part of a key: digits number a list's item."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


def _child(value: Any, part: str | int) -> Any:
    """The part of `value` of that name or number; None where there is none."""
    try:
        return value[part]
    except (KeyError, IndexError, TypeError):
        return None


def _explained(error: ValidationError, origins: Origins) -> list[str]:
    """Pydantic's findings as mistakes, in the order of the file."""
    found: list[tuple[int, str]] = []
    order = {place: rank for rank, place in enumerate(origins.values())}
    for detail in error.errors(include_url=False):
        key: Key = detail["loc"]
        place = next(origins[key[:end]] for end in range(len(key), -1, -1) if key[:end] in origins)
        found.append((order[place], f"{place}: {_dotted(key)}: {_message(key, detail)}"))
    return [text for _, text in sorted(found, key=lambda item: item[0])]


def _message(key: Key, detail: Any) -> str:
    """One finding in words, with the nearest known key or the value that was given."""
    if detail["type"] == "extra_forbidden":
        known = _known_keys(key[:-1])
        close = get_close_matches(str(key[-1]), known, n=1)
        return f"unknown key, did you mean '{close[0]}'?" if close else f"unknown key, known: {', '.join(known)}"
    if detail["type"] == "missing":
        return "is required"
    text = detail["msg"].removeprefix("Value error, ")
    text = text.replace("Input should", "should", 1)
    given = detail["input"]
    shown = "" if detail["type"] == "value_error" or isinstance(given, dict | list) else f", is {given!r}"
    return f"{text[:160]}{shown[:80]}"


def _known_keys(key: Key) -> list[str]:
    """The keys that the section at `key` knows."""
    section: type[BaseModel] = ExperimentConfig
    for part in key:
        if isinstance(part, str):
            annotation = section.model_fields[part].annotation
            inner = [annotation, *get_args(annotation)]
            section = next(kind for kind in inner if isinstance(kind, type) and issubclass(kind, BaseModel))
    return [str(field.serialization_alias or name) for name, field in section.model_fields.items()]


def _dotted(key: Key) -> str:
    """`key` as it is written on the command line."""
    return ".".join(str(part) for part in key)
