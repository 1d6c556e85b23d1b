"""The dataset card as a page of Markdown, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from riskdistill.dataset.card import DatasetCard, PartCard

_WHY = {
    "purged": "in the gap before validation or the test",
    "immature": "too young for labels to have arrived",
    "left_out": "of typologies that only the test has",
}


def markdown(card: DatasetCard) -> str:
    """The page."""
    return "\n".join(
        [
            f"# Dataset card: {card.name}",
            "",
            f"Dataset `{card.fingerprint}`, features `{card.features}`, by riskdistill {card.riskdistill}.",
            "",
            f"    {card.command}",
            "",
            "## Source",
            "",
            *_source(card),
            "",
            "## Parts",
            "",
            *_parts(card),
            "",
            "## Laundering by typology",
            "",
            *_typologies(card.parts),
            "",
            "## The mix",
            "",
            *_mix(card),
            "",
            "## Limits",
            "",
            *(f"- {limit}" for limit in card.limits),
            "",
        ]
    )


def _source(card: DatasetCard) -> Iterator[str]:
    source = card.source
    yield f"{source.rows:,} transactions from {source.start:%Y-%m-%d} to {source.end:%Y-%m-%d}."
    yield f"The clock counts {source.stamped_in}. SHA-256 of the rows:"
    yield ""
    for name in ("transactions", "labels", "truth"):
        yield f"- {name}: {getattr(source, name) or 'none'}"


def _parts(card: DatasetCard) -> Iterator[str]:
    yield "| part | from | to | rows | laundering | prevalence | on record | true | schemes |"
    yield "|---|---|---|---:|---:|---:|---:|---:|---:|"
    for name, part in card.parts.items():
        true = "not known" if part.true is None else f"{part.true:,}"
        yield (
            f"| {name} | {part.start:%Y-%m-%d} | {part.end:%Y-%m-%d} | {part.rows:,} | {part.laundering:,} | "
            f"{100 * part.prevalence:.3f} % | {part.recorded:,} | {true} | {part.schemes:,} |"
        )
    yield ""
    if card.left_out:
        yield f"Only the test has {', '.join(card.left_out)}."
    yield f"Labels of training and validation are as known at {card.built_at:%Y-%m-%d %H:%M} UTC."
    if card.delays is not None:
        yield (
            f"In the training period half came within {card.delays.median:.1f} days of the payment, nine in ten "
            f"within {card.delays.nine_tenths:.1f}; {card.delays.not_known_yet:,} were not known yet."
        )
    if card.record is not None:
        record = card.record
        yield (
            f"Of {record.laundering:,} laundering transactions in all, {record.on_record:,} are on record, and "
            f"{record.wrong:,} records are wrong."
        )
    for reason, rows in card.in_no_part.items():
        if rows:
            yield f"{rows:,} rows are in no part: {_WHY[reason]}."


def _typologies(parts: dict[str, PartCard]) -> Iterator[str]:
    yield f"| typology | {' | '.join(parts)} |"
    yield f"|---|{'---:|' * len(parts)}"
    for name in sorted({name for part in parts.values() for name in part.typologies}):
        yield f"| {name} | {' | '.join(f'{part.typologies.get(name, 0):,}' for part in parts.values())} |"


def _mix(card: DatasetCard) -> Iterator[str]:
    mix = card.mix
    for kind, count in mix.drawn.items():
        yield f"- {kind}: {count:,} draws an epoch of {mix.different[kind]:,} different rows"
    yield (
        f"- laundering is {100 * mix.mixed_prevalence:.2f} % of it and {100 * mix.prevalence:.3f} % of the "
        "training period: scores are corrected for the difference"
    )
    if mix.hard_negatives:
        yield f"- {100 * mix.hard_negatives:g} % of the normal rows share an account with known laundering"
    if mix.unlabelled:
        yield f"- beside it {mix.unlabelled:,} rows, which only teachers tell a student about"
    if mix.reviewed:
        yield f"- {mix.reviewed:,} of its rows were looked at: their labels became known after the payment"
    if card.synthetic:
        yield ""
        yield "| synthetic rows | rows | settings | the label | what they conserve |"
        yield "|---|---:|---|---|---|"
    for made in card.synthetic:
        settings = ", ".join(f"{name} {value}" for name, value in made.settings.items()) or "none"
        yield (
            f"| {made.name} | {made.rows:,} | {settings} | is {'kept' if made.label == 'keeps' else 'changed'} | "
            f"{', '.join(made.conserves)} |"
        )
