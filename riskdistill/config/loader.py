"""Reads an experiment's YAML file and `--set` overrides, and reports every mistake in them at once.

Each mistake is one line, as `riskdistill.yaml_file` tells it, with `--set a.b=c` in the place of file and line
where an override made it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from riskdistill.config.schema import ExperimentConfig
from riskdistill.errors import ConfigError
from riskdistill.yaml_file import Hints, Key, Loader, Origins, dotted, explained, part_of, read_mapping

_HINTS: Final = Hints("the experiments are in configs/", "state at least 'name: my-experiment'")


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
    values = read_mapping(Path(path), origins, mistakes, _HINTS)
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
        mistakes += explained(error, origins, ExperimentConfig)
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return config


def apply_override(override: str, values: dict[Any, Any], origins: Origins, default: Any) -> None:
    """Set one `a.b=c` in `values`.

    Args:
        origins: where each key was written; that of the new one is noted.
        default: the values where `values` is silent, so that one item of a default list can change.

    Raises:
        ValueError: it says why it cannot be.
    """
    name, equals, text = override.partition("=")
    key: Key = tuple(map(part_of, name.strip().split(".")))
    if not equals or "" in key:
        raise ValueError("write it as key.key=value")
    try:
        value = yaml.load(text, Loader=Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"the value is not valid YAML: {getattr(error, 'problem', error)}") from None
    target: Any = values
    for depth, part in enumerate(key):
        default = _child(default, part)
        kind: Any = list if isinstance(part, int) else dict
        if not isinstance(target, kind):
            wanted = "list" if kind is list else "section"
            raise ValueError(f"{dotted(key[:depth]) or 'the experiment'} is not a {wanted}")
        if isinstance(part, int) and part >= len(target):
            raise ValueError(f"{dotted(key[:depth])} has {len(target)} items, counted from 0")
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


def _child(value: Any, part: str | int) -> Any:
    """The part of `value` of that name or number; None where there is none."""
    try:
        return value[part]
    except (KeyError, IndexError, TypeError):
        return None
