"""The page of features is the specification's, and no older."""

from __future__ import annotations

from pathlib import Path

from riskdistill.features import FeatureSpec
from riskdistill.features.catalogue import markdown

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_the_page_in_docs_is_of_this_version() -> None:
    mend = "make it again: riskdistill features --out docs/features.md"
    assert (DOCS / "features.md").read_text() == markdown(FeatureSpec()), mend


def test_every_feature_has_its_row() -> None:
    spec = FeatureSpec(windows=(600.0, 86_400.0))
    page = markdown(spec)
    assert all(page.count(f"| `{name}` |") == 1 for name in spec.names)
