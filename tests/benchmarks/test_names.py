"""The names of the benchmarks: a script's folder is searched first, so none may be called as a package is."""

from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PACKAGES = {"api", "monitoring", "pipelines", "riskdistill"}


def test_no_benchmark_hides_a_package_of_ours():
    assert PACKAGES.isdisjoint(script.stem for script in BENCHMARKS.glob("*.py"))
