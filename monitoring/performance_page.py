"""The performance report for people: realised beside estimated, window by window, and JSON."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from monitoring.pages import render, write_whole
from monitoring.performance import PerformanceReport

_BODY: Final = """
{% macro told(interval) %}{% if interval is none %}–{% else %}{{ "{:.1%}".format(interval.value) }}
<span class="soft">{{ "{:.0%}".format(interval.low) }}–{{ "{:.0%}".format(interval.high) }}</span>{% endif %}
{% endmacro %}
<h1>Performance with late labels</h1>
<p class="soft">As known at {{ report.now.isoformat(" ", "minutes") }}. The same for machines:
<a href="performance.json">performance.json</a>.</p>
<section class="figures">
  <div>labels have had their time after<b>{% if report.maturity_days is none %}–{% else %}
    {{ "{:.1f} days".format(report.maturity_days) }}{% endif %}</b></div>
  <div>windows that are mature<b>{{ report.windows | selectattr("mature") | list | length }} of
    {{ report.windows | length }}</b></div>
  <div>estimates were off by<b>{% if report.mean_error is none %}–{% else %}
    {{ "{:.1f} points".format(100 * report.mean_error) }}{% endif %}</b></div>
  <div>realised within the interval<b>{% if report.covered is none %}–{% else %}
    {{ "{:.0%}".format(report.covered) }}{% endif %}</b></div>
</section>
<section><h2>Precision of the alerts</h2>{{ chart }}
<p class="soft">Dots: realised, where labels have had their time, with 95 % intervals. Band: estimated at the end of
the window, from scores and older alerts, with the interval for what will be realised.</p></section>
{% if report.second_looks is not none %}
<section><h2>Second looks</h2>
<p>{{ report.second_looks.contradicted }} of {{ report.second_looks.looks }} second verdicts of the last week
contradict the first; {{ "{:.1%}".format(report.second_looks.usual) }} is usual
(p {{ "{:.2g}".format(report.second_looks.p_value) }}). Where labels cannot be trusted, nor can what follows.</p>
</section>
{% endif %}
<section><h2>Windows</h2>
<table><tr><th>from<th class="n">decisions<th class="n">alerts<th class="n">labelled<th>precision<th>estimated
<th class="n">confidence<th class="n">weighted<th>recall<th>estimated<th>student and teacher differ</tr>
{% for w in report.windows %}
<tr><td>{{ w.start.strftime("%F") }}<td class="n">{{ "{:,}".format(w.decisions) }}
<td class="n">{{ "{:,}".format(w.alerts) }}<td class="n">{{ "{:,}".format(w.labelled) }}
<td>{% if w.mature %}{{ told(w.precision) }}{% else %}not mature{% endif %}
<td>{% if w.estimated is none %}–{% else %}{{ "{:.1%}".format(w.estimated.combined) }}
<span class="soft">{{ "{:.0%}".format(w.estimated.low) }}–{{ "{:.0%}".format(w.estimated.high) }}</span>{% endif %}
<td class="n">{% if w.estimated is none %}–{% else %}{{ "{:.1%}".format(w.estimated.confidence) }}{% endif %}
<td class="n">{% if w.estimated is none %}–{% else %}{{ "{:.1%}".format(w.estimated.weighted) }}{% endif %}
<td>{% if w.recall is not none and w.recall_from == "known" %}at most {% endif %}{{ told(w.recall) }}
<td>{{ told(w.estimated_recall) }}
<td>{{ told(w.disagreement) }}</tr>
{% endfor %}</table>
<p class="soft">Recall needs the random sample of what was let pass: without it ("at most") only laundering that
came to light by other ways is known to have been missed. It is estimated for windows that are not mature, from the
estimated precision and the same estimate of the sample. Disagreement is told from the same sample.</p>
</section>
{% if report.segments %}
<section><h2>Segments, in all windows that are mature</h2>
<table><tr><th>segment<th class="n">decisions<th class="n">alerts<th class="n">labelled<th>precision<th>recall</tr>
{% for s in report.segments %}
<tr><td>{{ s.name }}<td class="n">{{ "{:,}".format(s.decisions) }}<td class="n">{{ "{:,}".format(s.alerts) }}
<td class="n">{{ "{:,}".format(s.labelled) }}<td>{{ told(s.precision) }}
<td>{% if s.recall is not none and s.recall_from == "known" %}at most {% endif %}{{ told(s.recall) }}</tr>
{% endfor %}</table>
</section>
{% endif %}
"""


def write_performance_report(folder: Path, report: PerformanceReport) -> Path:
    """Write `performance.json` and `performance.html` into `folder`, each whole or not at all; returns the page."""
    write_whole(folder / "performance.json", report.model_dump_json(indent=2))
    page = render(_BODY, title="Performance with late labels", report=report, chart=_chart(report))
    return write_whole(folder / "performance.html", page)


def _chart(report: PerformanceReport) -> Markup:
    """Realised and estimated precision over time, as inline SVG."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots()
    told = [
        (np.datetime64(window.end.replace(tzinfo=None)), window.estimated)
        for window in report.windows
        if window.estimated is not None
    ]
    if told:
        ends = np.array([end for end, _ in told])
        axes.fill_between(
            ends,
            [one.low for _, one in told],
            [one.high for _, one in told],
            color="#7f9bbd",
            alpha=0.3,
            linewidth=0,
        )
        axes.plot(ends, [one.combined for _, one in told], color="#1f5fa8", linewidth=1.2)
    real = [
        (np.datetime64(window.end.replace(tzinfo=None)), window.precision)
        for window in report.windows
        if window.precision is not None
    ]
    for end, one in real:
        axes.plot(np.array([end, end]), [one.low, one.high], color="#1c2430", linewidth=1)
        axes.plot(np.array([end]), [one.value], "o", color="#1c2430", markersize=4)
    axes.set_ylim(0, 1)
    axes.set_ylabel("precision")
    axes.spines[["top", "right"]].set_visible(False)
    text = io.StringIO()
    with rc_context({"svg.hashsalt": "performance", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return Markup(text.getvalue()[text.getvalue().index("<svg") :])
