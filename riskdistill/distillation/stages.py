"""Progressive distillation: which terms are on in which third of the epochs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_OUTPUT = ("logits", "typology", "batch_correlation", "ranking")
_FEATURE = ("feature", "hidden_states")
_ATTENTION = ("attention_relations", "attention_maps")

ADVERSARIAL: Final = "adversarial"
# Each stage adds to those before it, except in the second progression, whose stages follow one another.
STAGES: Final = {
    "output_intermediate_adversarial": (
        _OUTPUT,
        _OUTPUT + _FEATURE + _ATTENTION,
        (*_OUTPUT, *_FEATURE, *_ATTENTION, ADVERSARIAL),
    ),
    "feature_attention_logits": (_FEATURE, _ATTENTION, (*_OUTPUT, ADVERSARIAL)),
}


def stage(epoch: int, epochs: int) -> int:
    """The third (0, 1 or 2) of the planned epochs in which an epoch (from 0) lies.

    >>> [stage(epoch, 7) for epoch in range(7)]
    [0, 0, 0, 1, 1, 2, 2]
    """
    return min(2, 3 * epoch // epochs)


def begins(progression: str | None, epochs: int) -> tuple[int, ...]:
    """The first epoch of each stage of the planned epochs.

    >>> begins("feature_attention_logits", 7), begins(None, 7)
    ((0, 3, 5), (0,))
    """
    if progression is None:
        return (0,)
    found = [stage(epoch, epochs) for epoch in range(epochs)]
    return tuple(found.index(third) for third in sorted(set(found)))


def active(names: Iterable[str], progression: str | None, epoch: int, epochs: int) -> list[str]:
    """Those of `names` (terms, or `ADVERSARIAL`) that are on in an epoch; labels are on in every stage.

    A stage of which no term is configured leaves all on: it would teach nothing otherwise.
    """
    everything = list(names)
    if progression is None:
        return everything
    wanted = STAGES[progression][stage(epoch, epochs)]
    if not any(name in wanted for name in everything if name != ADVERSARIAL):
        return [name for name in everything if name != ADVERSARIAL]
    return [name for name in everything if name in wanted or name == "labels"]
