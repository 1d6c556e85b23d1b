"""The drift report for people: our summary page, Evidently's page on the columns that moved, and JSON.

The verdict is ours (frozen quantile bins, `monitoring.drift`). Evidently's page shows the distributions
behind it; its own verdict may differ, because it has other tests and draws its bins over both samples.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from monitoring.drift import DriftReport, PsiDrift
from monitoring.pages import render, write_whole
from riskdistill.errors import EmptyInputError, MissingColumnError

COLUMNS: Final = 20  # shown in the chart and by Evidently: those with the largest PSI
ROWS: Final = 2_000  # of the window that Evidently sees: its cost grows with rows and columns
_DARKEST: Final = 0.6  # of a cell of the heat map: dark figures on it still have a contrast of 4.5 (WCAG 2.2, AA)
_DRAWN: Final = re.compile(r'"id": "([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"|\b(metric_[0-9a-f]{32})\b')

_BODY: Final = """
<h1>Drift report</h1>
<p>Verdict: <span class="{{ 'bad' if drift.verdict == 'drift' else 'good' }}">{{ drift.verdict }}</span>
   <span class="soft">— {{ drift.recommendation }}.</span></p>
{% if drift.logged %}
<p class="soft">Decisions {{ "{:,}".format(drift.logged.first_sequence) }} to
  {{ "{:,}".format(drift.logged.last_sequence) }} of the log
  {%- if drift.logged.start %}, from {{ drift.logged.start.isoformat(" ", "seconds") }}{% endif %}
  {%- if drift.logged.end %}, before {{ drift.logged.end.isoformat(" ", "seconds") }}{% endif %};
  hash of the last <code>{{ drift.logged.hash }}</code>.</p>
{% endif %}
<section class="figures">
  <div>transactions in the window<b>{{ "{:,}".format(drift.rows) }}</b></div>
  <div>in the reference<b>{{ "{:,}".format(drift.reference_rows) }}</b></div>
  <div>alarms<b>{{ drift.drifting | length }} of {{ drift.checks }}</b></div>
  <div>chance of any false alarm<b>{{ "{:.1%}".format(drift.policy.alpha) }}</b></div>
</section>
<section>
  <h2>Largest shifts</h2>
  {{ chart }}
  <p class="soft">PSI over the bundle's frozen quantile bins. Red: significant after Holm's correction and at
  least the column's floor (the dashed mark). Ages, totals ever and the calendar are only shown: they move on
  healthy traffic too. The grey tick is what sampling noise alone would give.
  <a href="evidently.html">Distributions of these columns</a> (Evidently; the verdict there rests on other tests
  and does not count).</p>
</section>
{% if drift.heat %}
<section>
  <h2>When it moved</h2>
  <table class="heat"><tr><th>column{% for start in drift.heat.starts %}<th>{{ start.strftime("%d.%m. %Hh") }}
  {% endfor %}</tr>
  {% for name, row in hottest %}
  <tr><td><code>{{ name }}</code>
    {% for value in row %}
    <td class="n" style="background:rgba(179,38,30,{{ shade(value) }})">
    {{ "–" if value is none else "%.2f" | format(value) }}
    {% endfor %}</tr>
  {% endfor %}
  </table>
  <p class="soft">PSI of each part of the window, the columns with the largest first. Single days differ from a
  whole reference by themselves: look for what sets in and stays.</p>
</section>
{% endif %}
{% if drift.domain %}
<section>
  <h2>All features together</h2>
  <p>A classifier tells window and reference apart with a ROC-AUC of <b>{{ "%.3f" | format(drift.domain.auc) }}</b>
  on rows that it was not fitted on (p {{ "%.2g" | format(drift.domain.p_value) }}, {{ drift.domain.rows }} rows);
  an alarm from {{ drift.policy.material_auc }}.
  {% if drift.domain.alarm %}<span class="bad">alarm</span>{% endif %}</p>
</section>
{% endif %}
{% if drift.categories %}
<section>
  <h2>Kinds</h2>
  <table><tr><th>category<th class="n">PSI<th class="n">p (χ²)<th class="n">never seen<th>which<th></tr>
  {% for kind in drift.categories %}
  <tr><td>{{ kind.name }}<td class="n">{{ "%.3f" | format(kind.psi) }}
      <td class="n">{{ "%.2g" | format(kind.p_value) }}
      <td class="n">{{ "{:.1%}".format(kind.unseen) }}<td>{{ kind.unseen_kinds | join(", ") }}
      <td>{% if kind.alarm %}<span class="bad">alarm</span>{% endif %}</tr>
  {% endfor %}
  </table>
</section>
{% endif %}
{% if drift.rates %}
<section>
  <h2>Rates, segments and volume</h2>
  <table><tr><th>rate<th class="n">window<th class="n">reference<th class="n">p<th></tr>
  {% for rate in drift.rates %}
  <tr><td>{{ rate.name }}<td class="n">{{ "{:,.4g}".format(rate.actual) }}
      <td class="n">{{ "{:,.4g}".format(rate.expected) }}<td class="n">{{ "{:.2g}".format(rate.p_value) }}
      <td>{% if rate.alarm %}<span class="bad">alarm</span>{% endif %}</tr>
  {% endfor %}
  </table>
</section>
{% endif %}
<section>
  <h2>All columns</h2>
  <table><tr><th>column<th class="n">PSI<th class="n">by noise<th class="n">floor<th class="n">p<th class="n">KS
      <th class="n">Wasserstein<th class="n">missing
      <th class="n">missing in reference<th></tr>
  {% for column in columns %}
  <tr><td><code>{{ column.name }}</code><td class="n">{{ "{:.3f}".format(column.psi) }}
      <td class="n">{{ "{:.3f}".format(column.expected_psi) }}<td class="n">{{ "{:.2f}".format(column.floor) }}
      <td class="n">{{ "{:.2g}".format(column.p_value) }}
      <td class="n">{{ "{:.3f}".format(column.ks) }}<td class="n">{{ "{:.3f}".format(column.wasserstein) }}
      <td class="n">{{ "{:.1%}".format(column.missing) }}
      <td class="n">{{ "{:.1%}".format(column.expected_missing) }}
      <td>{% if column.alarm %}<span class="bad">alarm</span>{% elif column.only_shown %}only shown{% endif %}</tr>
  {% endfor %}
  </table>
</section>
"""


def write_drift_report(
    folder: Path, drift: DriftReport, reference_sample: pd.DataFrame, current: pd.DataFrame
) -> Path:
    """Write `drift.json`, `drift.html` and `evidently.html` into `folder`; returns the path of `drift.html`.

    Args:
        folder: made if missing; each file appears whole or not at all.
        drift: the measured drift.
        reference_sample: the bundle's sample (`monitoring.profile.draw_sample`).
        current: rows of the window, with the same columns.

    Raises:
        MissingColumnError: a column that drift was measured on is not in one of the tables.
        EmptyInputError: one of the tables has no rows.
    """
    columns = sorted((*drift.features, drift.score), key=lambda column: -column.psi)
    names = [column.name for column in columns]
    for title, frame in (("reference sample", reference_sample), ("current window", current)):
        if absent := sorted(set(names) - set(frame.columns)):
            raise MissingColumnError(f"lacks {', '.join(absent)}", where=title, mend="pass every feature and score")
        if frame.empty:
            raise EmptyInputError("has no rows", where=title)
    write_whole(folder / "drift.json", drift.model_dump_json(indent=2))
    page = render(
        _BODY,
        title="Drift report",
        drift=drift,
        columns=columns,
        chart=_chart(columns[:COLUMNS]),
        hottest=_hottest(drift),
        shade=lambda value: f"{_DARKEST * min(1.0, value or 0.0):.2f}",
    )
    write_whole(folder / "evidently.html", _evidently(reference_sample, current, names))
    return write_whole(folder / "drift.html", page)


def _hottest(drift: DriftReport) -> list[tuple[str, tuple[float | None, ...]]]:
    """The rows of the heat map for the columns that may alarm, the largest PSI first."""
    if drift.heat is None:
        return []
    shown = {column.name for column in (*drift.features, drift.score) if column.only_shown}
    rows = [row for row in zip(drift.heat.names, drift.heat.psi, strict=True) if row[0] not in shown]
    return sorted(rows, key=lambda row: -max((value or 0.0 for value in row[1]), default=0.0))[:COLUMNS]


def _chart(columns: list[PsiDrift]) -> Markup:
    """Horizontal bars of PSI, the largest on top, as inline SVG."""
    figure = Figure(figsize=(9, 0.6 + 0.28 * len(columns)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(columns))
    axes.barh(places, [c.psi for c in columns], color=["#b3261e" if c.alarm else "#7f9bbd" for c in columns])
    axes.scatter([c.expected_psi for c in columns], places, marker="|", color="#444b55", s=70, linewidths=1.2)
    floors = [np.nan if c.only_shown else c.floor for c in columns]
    axes.vlines(floors, places - 0.4, places + 0.4, color="#5b6675", linewidth=1, linestyle="--")
    axes.set_yticks(places, [c.name for c in columns], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel("PSI")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    text = io.StringIO()
    with rc_context({"svg.hashsalt": "drift", "svg.fonttype": "none"}):  # reproducible; text stays text
        figure.savefig(text, format="svg", metadata={"Date": None})
    return Markup(text.getvalue()[text.getvalue().index("<svg") :])  # matplotlib has escaped the names


def _evidently(reference: pd.DataFrame, current: pd.DataFrame, names: list[str]) -> str:
    """Evidently's drift page for the first of `names` that hold values in both tables."""
    reference, current = (
        frame[names].replace([np.inf, -np.inf], np.nan).sample(min(len(frame), ROWS), random_state=0)
        for frame in (reference, current)
    )
    shown = [name for name in names if reference[name].notna().any() and current[name].notna().any()][:COLUMNS]
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with warnings.catch_warnings():
        # Evidently and what it imports call deprecated parts of NumPy and Litestar, and correlate constant columns.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        from evidently import DataDefinition, Dataset, Report  # takes seconds: only where needed
        from evidently.presets import DataDriftPreset

        definition = DataDefinition(numerical_columns=shown)
        samples = [Dataset.from_pandas(frame[shown], data_definition=definition) for frame in (current, reference)]
        html: str = Report([DataDriftPreset()]).run(*samples).get_html_str(as_iframe=False)
    return _with_plain_names(html)


def _with_plain_names(html: str) -> str:
    """Evidently's page with numbers for the random names of its parts: the same report gives the same bytes."""
    for number, name in enumerate(dict.fromkeys(found[1] or found[2] for found in _DRAWN.finditer(html))):
        html = html.replace(name, f"part_{number}")
    return html
