"""How near our simulated traffic comes to AMLworld and AMLGentex: one distance per distribution, a page, a picture.

    python benchmarks/dataset_realism.py --simulated FOLDER --out docs --json realism.json

The distance is Kolmogorov and Smirnov's: the largest difference between the shares of values below a point, 0 where
the distributions are one and 1 where they do not overlap. It is the same in dollars and in their logarithms, so
that amounts, hours and counts compare. Two sources are compared on the coarser of their clocks. How far the two
peers are from each other is the yardstick: a distance below it is as near as they are to each other.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np
from dataset_quantities import QUANTITIES, Floats, Quantity, Source, distance, source
from dataset_realism_plot import plot
from dataset_sources import simulated
from feature_data import ROOT, SETS, Library, Measurement
from machine import describe
from section import run_alone

from riskdistill.features.record import DAY, HOUR

OURS, AMLWORLD, AMLGENTEX = "ours", "AMLworld", "AMLGentex"
PEERS: Final = (AMLWORLD, AMLGENTEX)
PAGE: Final = "simulator-realism.md"
PICTURE: Final = "simulator-realism.png"
NEAR: Final = 0.1  # where the peers cannot be compared: a tenth of the values lies elsewhere
CRITICAL: Final = 1.358  # of Kolmogorov and Smirnov's two-sample test at 5 %
Pair = tuple[str, str]

# what each peer does that makes its values what they are, by whose they are and what
CAUSES: Final[dict[tuple[str, str], dict[str, str]]] = {
    ("laundering", "amounts"): {
        AMLWORLD: "its launderers move the money of firms and banks too, in fifteen currencies up to bitcoin",
        AMLGENTEX: "it draws all laundering from one narrow bell curve, in a currency that has no dollar rate",
    },
    ("laundering", "amounts / median normal amount"): {
        AMLWORLD: "its normal rows here are those of laundering accounts, whose usual payment is not everyone's",
        AMLGENTEX: "it draws normal payments and laundering from bell curves beside each other",
    },
    ("laundering", "hour of the day"): {AMLWORLD: "its launderers pay at night too, hop after hop"},
    ("laundering", "day of the month"): {AMLGENTEX: "it has few schemes, each on few days"},
    ("normal", "amounts"): {
        AMLWORLD: "its normal rows here are those of accounts that launder somewhere, among them many firms",
        AMLGENTEX: "it is fitted to Swedish mobile payments between people, in a currency that has no dollar rate",
    },
    ("normal", "amounts / median normal amount"): {
        AMLWORLD: "its normal rows here mix persons and firms in many currencies",
        AMLGENTEX: "its payments are of one size, around which they lie as a bell curve, and salaries",
    },
    ("normal", "hour of the day"): {AMLWORLD: "its normal payments come evenly by day and by night"},
    ("normal", "day of the month"): {
        AMLGENTEX: "it pays salaries on five days of the month, and spending has no calendar"
    },
    ("normal", "gap between payments that an account sends"): {
        AMLGENTEX: "its accounts pay evenly from day to day; ours shop, pay bills and rest"
    },
    ("normal", "payees of an account in 28 days"): {
        AMLGENTEX: "it draws partners from a fixed network, and shops are one account, the outside world"
    },
    ("normal", "payers of an account in 28 days"): {
        AMLGENTEX: "it draws partners from a fixed network, and employers are one account, the outside world"
    },
    ("schemes", "payments of a scheme"): {
        AMLWORLD: "it draws sizes evenly up to a largest one, and some listed schemes have a single payment",
        AMLGENTEX: "its bipartite schemes connect nearly every source with every target",
    },
    ("schemes", "accounts of a scheme"): {
        AMLWORLD: "it draws sizes evenly up to a largest one",
        AMLGENTEX: "it takes up to fifteen accounts whatever the shape",
    },
    ("schemes", "duration of a scheme"): {
        AMLWORLD: "it spreads a scheme over days whatever its shape",
        AMLGENTEX: "it spreads a scheme over a window of up to four weeks",
    },
    ("schemes", "gap between payments of a scheme"): {
        AMLWORLD: "it sends hop after hop with a pause of hours to days, never at once",
        AMLGENTEX: "it draws each payment's day within a window of weeks",
    },
    ("schemes", "payees of an account in a scheme"): {
        AMLWORLD: "its stacks and chains have one payee an account, its hubs up to sixteen",
        AMLGENTEX: "its bipartite schemes connect every source with every target",
    },
    ("schemes", "payers of an account in a scheme"): {
        AMLWORLD: "its stacks and chains have one payer an account, its hubs up to sixteen",
        AMLGENTEX: "its bipartite schemes connect every source with every target",
    },
    ("schemes", "sent on / received in a scheme"): {
        AMLWORLD: "its hops draw amounts anew around the scheme's, so that more may leave than came",
        AMLGENTEX: "its accounts keep a share at every hop",
    },
}


@dataclass(frozen=True)
class Comparison:
    """One distribution in all sources.

    Attributes:
        values: by source, on its own clock; empty where it does not tell.
        paired: the values of both on their common clock, by pair of sources that tell.
    """

    quantity: Quantity
    values: dict[str, Floats]
    paired: dict[Pair, tuple[Floats, Floats]]

    def distance(self, pair: Pair) -> float | None:
        """Kolmogorov and Smirnov's; None where one of the two does not tell."""
        return distance(*self.paired[pair]) if pair in self.paired else None

    def limit(self, peer: str) -> float:
        """The largest distance from a peer that is no mismatch: the yardstick, or what chance alone may bring."""
        yardstick = self.distance(PEERS)
        ours, theirs = (len(values) for values in self.paired[OURS, peer])
        chance = CRITICAL * float(np.sqrt((ours + theirs) / (ours * theirs)))  # as if rows were independent
        return max(NEAR if yardstick is None else yardstick, chance)

    def mismatched(self, peer: str) -> bool:
        """Whether we are further from a peer than the limit."""
        found = self.distance((OURS, peer))
        return found is not None and found > self.limit(peer)

    def __str__(self) -> str:
        return f"{self.quantity.of}: {self.quantity.title}"


def realism(library: Library, folder: Path, out: Path | None, quick: bool) -> list[Measurement]:
    """Our traffic in `folder` beside the peers; the page and the picture are written to the folder `out`, if given.

    It is the same with `quick`: it takes seconds.
    """
    sources = read(library, folder)
    found = [compare(quantity, sources) for quantity in QUANTITIES]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / PAGE).write_text(page(found, sources))
        plot([(one.quantity, one.values, _told_distances(one)) for one in found], out / PICTURE)
    rows = [_measurement(one, peer) for one in found for peer in PEERS if (OURS, peer) in one.paired]
    far = sum(one.mismatched(peer) for one in found for peer in PEERS)
    summary = "distances from a peer that are above the yardstick"
    return [Measurement(summary, far, f"of {len(rows)}", detail="each is named on the page"), *rows]


def read(library: Library, folder: Path) -> list[Source]:
    """Ours and the peers'; AMLworld's with its laundering to the end, which outlives its normal traffic."""
    ours, gentex = simulated(folder), library["amlgentex"]
    world = source(AMLWORLD, *library.whole("amlworld"), natural=False)
    end = float(library["amlworld"].seconds[-1])  # later rows are laundering nearly all: no normal traffic to count
    return [
        source(OURS, ours.transactions, ours.labels),
        world.only(world.laundering | (world.seconds <= end)),
        source(AMLGENTEX, gentex.transactions, gentex.labels),
    ]


def compare(quantity: Quantity, sources: list[Source]) -> Comparison:
    """One distribution in all sources, each pair on its common clock."""
    values = {one.name: quantity.measure(one) for one in sources}
    paired = {}
    for left, right in combinations(sources, 2):
        unit = max(left.unit, right.unit)
        both = quantity.measure(left.on_clock(unit)), quantity.measure(right.on_clock(unit))
        if all(len(one) for one in both):
            paired[left.name, right.name] = both
    return Comparison(quantity, values, paired)


def page(found: list[Comparison], sources: list[Source]) -> str:
    """The page: the sources, the distances, and each mismatch in words."""
    lines = [
        "# Our simulated traffic beside AMLworld and AMLGentex",
        "",
        f"![Distributions of ours, AMLworld and AMLGentex]({PICTURE})",
        "",
        "Ours is what the simulator makes. AMLworld is the part of HI-Small in `amlworld-hard`: its laundering is",
        "complete, its normal rows are those between accounts that launder somewhere, so that only what such a",
        "payment says by itself is compared. AMLGentex is `amlgentex-5k`. It stamps by the day: it tells no hours,",
        "and what took less than a day there is at the left edge of the picture. Schemes are those of a named",
        "shape; payments from an account to itself are left out.",
        "",
        *_glance(sources),
        "",
        "## Distances",
        "",
        "Kolmogorov and Smirnov's distance: the largest difference between the shares of values below a point; 0",
        "where two distributions are one, 1 where they do not overlap. Two sources are compared on the coarser of",
        "their clocks. The yardstick is the distance between the two peers. **Bold**: further than the yardstick",
        f"(than {NEAR}, where there is none), and than what chance makes of samples of that size 19 times in 20.",
        "",
        f"| distribution | {OURS} – {AMLWORLD} | {OURS} – {AMLGENTEX} | {AMLWORLD} – {AMLGENTEX} |",
        "|---|---:|---:|---:|",
        *(f"| {one} | {_cell(one, AMLWORLD)} | {_cell(one, AMLGENTEX)} | {_plain(one)} |" for one in found),
        "",
        "## Mismatches",
        "",
        "The median of each, in brackets what a tenth lies below and a tenth above.",
        "",
        *_mismatches(found),
        "",
        f"`python benchmarks/dataset_realism.py --simulated FOLDER --out docs`; {describe(('numpy',))}.",
        "",
    ]
    return "\n".join(lines)


def told(value: float, quantity: Quantity) -> str:
    """A value as people say it."""
    match quantity.scale:
        case "seconds":
            for unit, name in ((DAY, "days"), (HOUR, "h"), (60.0, "min")):
                if value >= unit:
                    return f"{value / unit:.1f} {name}"
            return f"{value:.0f} s" if value else "0"
        case "dollars":
            return f"${value:,.0f}" if value >= 10 else f"${value:.2f}"
        case "multiples" | "share":
            return f"{value:,.0f} x" if value >= 100 else f"{value:.2f} x"
        case "hour":
            return f"{value:.0f}:00"
        case _:
            return f"{value:.0f}"


def _glance(sources: list[Source]) -> list[str]:
    columns = ["payments", "accounts", "days of normal traffic", "laundering", "schemes"]
    columns.append("laundering in no named shape")
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for one in sources:
        accounts = len(np.unique(np.concatenate([one.sender, one.receiver])))
        laundering = f"{int(one.laundering.sum()):,}"
        if one.natural:
            laundering += f" ({one.laundering.mean():.2%})"
        schemes = len(np.unique(one.scheme[one.scheme >= 0]))
        shapeless = (one.scheme[one.laundering] < 0).mean()
        lines.append(
            f"| {one.name} | {len(one.seconds):,} | {accounts:,} | {np.ceil(one.span / DAY):.0f} |"
            f" {laundering} | {schemes} | {shapeless:.0%} |"
        )
    return lines


def _mismatches(found: list[Comparison]) -> list[str]:
    lines = []
    for one in found:
        for peer in PEERS:
            if one.mismatched(peer):
                ours, theirs = (_summary(values, one.quantity) for values in one.paired[OURS, peer])
                far = f"distance {one.distance((OURS, peer)):.2f}, limit {one.limit(peer):.2f}"
                cause = CAUSES[one.quantity.of, one.quantity.title][peer]
                lines.append(f"- {one}. Ours: {ours}; {peer}: {theirs} ({far}). Likely cause: {cause}.")
    return lines or ["None: every distance is within the yardstick."]


def _summary(values: Floats, quantity: Quantity) -> str:
    low, half, high = (told(value, quantity) for value in np.quantile(values, (0.1, 0.5, 0.9)))
    return f"{half} ({low}, {high})"


def _measurement(one: Comparison, peer: str) -> Measurement:
    ours, theirs = (_summary(values, one.quantity) for values in one.paired[OURS, peer])
    found = one.distance((OURS, peer))
    assert found is not None
    yardstick = f"yardstick {_plain(one)}, limit {one.limit(peer):.2f}; ours {ours}, {peer} {theirs}"
    return Measurement(f"{one}: ours to {peer}", found, "KS", better="lower", detail=yardstick)


def _told_distances(one: Comparison) -> dict[str, float | None]:
    return {peer: one.distance((OURS, peer)) for peer in PEERS}


def _cell(one: Comparison, peer: str) -> str:
    found = one.distance((OURS, peer))
    if found is None:
        return "–"
    return f"**{found:.2f}**" if one.mismatched(peer) else f"{found:.2f}"


def _plain(one: Comparison) -> str:
    found = one.distance(PEERS)
    return "–" if found is None else f"{found:.2f}"


def main() -> None:
    """Parse the options, measure, print, write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--simulated", type=Path, required=True, help="folder that `riskdistill simulate` wrote")
    options.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help=f"of {SETS}")
    options.add_argument("--out", type=Path, help="folder of the page and the picture")
    options.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        library = Library(chosen.data, Path(cache))
        run_alone(
            "realism",
            lambda: realism(library, chosen.simulated, chosen.out, quick=False),
            ("numpy", "matplotlib"),
            quick=False,
            to=chosen.json,
        )


if __name__ == "__main__":
    main()
