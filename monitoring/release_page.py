"""The evidence of a release for people, with its model card, and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt
from markupsafe import Markup

from monitoring.pages import GATES_TABLE, render, write_whole
from monitoring.release_report import ReleaseReport

_BODY: Final = """
{% macro when(moment) %}{{ moment.isoformat(" ", "seconds") }}{% endmacro %}
<h1>Release {{ report.release.release_id }}: {{ report.bundle.name }}</h1>
<p>It is <span class="{{ tone }}">{{ report.release.state.replace("_", " ") }}</span>
{% if report.release.share %}for {{ "{:.1%}".format(report.release.share) }} of the accounts{% endif %}
<span class="soft">since {{ when(report.release.changed_at) }}. The same for machines:
<a href="release.json">release.json</a>.</span></p>
<section class="figures">
  <div>bundle<b><code>{{ report.bundle.version }}</code></b></div>
  <div>gates passed<b>{% if report.gates %}{{ report.gates | selectattr("passed") | list | length }} of
    {{ report.gates | length }}{% else %}–{% endif %}</b></div>
  <div>approved by<b>{{ report.release.approved_by | join(", ") or "nobody" }}</b></div>
  <div>replaced<b>{{ report.replaced or "–" }}</b></div>
  <div>followed by<b>{{ report.replaced_by or "–" }}</b></div>
</section>
<section>
  <h2>Who did what</h2>
  <table><tr><th class="n">#<th>when (UTC)<th>change<th>by<th>reason</tr>
  {% for t in report.history %}
  <tr><td class="n">{{ t.sequence }}<td>{{ t.at.strftime("%F %T") }}
      <td>{% if t.said %}{{ t.said }}{% else %}{{ t.before or "" }} →
      <span class="{{ 'bad' if t.after == 'rolled_back' }}">{{ t.after.replace("_", " ") }}</span>
      {% if t.share %}{{ "{:.1%}".format(t.share) }} of the accounts{% endif %}{% endif %}
      <td>{{ t.actor }}<td>{{ t.reason }}</tr>
  {% endfor %}
  </table>
  <p class="soft">Release log: {{ "{:,}".format(report.release_log.entries) }} entries, the chain verifies, head
  <code>{{ report.release_log.head }}</code>.
  {% if report.decision_log %}Decision log: entry {{ "{:,}".format(report.decision_log.sequence) }}, head
  <code>{{ report.decision_log.hash }}</code>; <code>riskdistill audit verify</code> checks it.{% endif %}</p>
</section>
{% if report.rollback %}
<section>
  <h2 class="bad">Why it was rolled back</h2>
  <p>{{ report.rollback.actor }} withdrew it at {{ when(report.rollback.at) }}: {{ report.rollback.reason }}.
  {% if report.rollback.restored %}{{ report.rollback.restored }} decides again{% endif %}
  {% if report.rollback.followed_seconds is not none %}; the last decision of {{ report.release.release_id }} came
  {{ "{:.2f}".format(report.rollback.followed_seconds) }} s after that{% endif %}.</p>
  {% if report.rollback.evidence.measures %}
  <table><tr><th>measure<th>part of the traffic<th class="n">e-value<th class="n">harm from<th class="n">margin
    <th>counts<th></tr>
  {% for m in report.rollback.evidence.measures %}
  <tr><td>{{ m.metric.replace("_", " ") }}<td>{{ m.segment }}<td class="n">{{ "{:,.4g}".format(m.e_value) }}
      <td class="n">{{ "{:,.0f}".format(1 / m.alpha) }}<td class="n">{{ m.margin }}
      <td>{% for kind, number in m.counts.items() %}{{ kind.replace("_", " ") }} {{ "{:,}".format(number) }}
      {%- if not loop.last %}, {% endif %}{% endfor %}
      <td>{% if m.harm %}<span class="bad">harm</span>{% endif %}</tr>
  {% endfor %}
  </table>
  {% endif %}
</section>
{% endif %}
{% if report.gates %}
<section>
  <h2>Gates</h2>
  {% if report.judged_on %}<p>On {{ "{:,}".format(report.judged_on.rows) }} payments
  ({{ report.judged_on.laundering }} known to be laundering) from {{ report.judged_on["from"][:10] }} to
  {{ report.judged_on.to[:10] }}, which neither it nor the champion of then had learned from.</p>{% endif %}
  {{ gates_table(report.gates) }}
</section>
{% endif %}
{% if report.spells %}
<section>
  <h2>When it decided</h2>
  <table><tr><th>as<th>from (UTC)<th>to<th class="n">accounts meant<th class="n">decisions<th class="n">of all</tr>
  {% for spell in report.spells %}
  <tr><td>{{ spell.state }}<td>{{ when(spell.start) }}<td>{{ when(spell.end) if spell.end else "now" }}
      <td class="n">{{ "{:.1%}".format(spell.share) }}
      <td class="n">{{ "–" if spell.decisions is none else "{:,}".format(spell.decisions) }}
      <td class="n">{% if spell.all_decisions %}{{ "{:.1%}".format(spell.decisions / spell.all_decisions) }}
      {% else %}–{% endif %}</tr>
  {% endfor %}
  </table>
  <p class="soft">Decisions that were deleted since are not counted. Just after a change the service still decides
  as before, until it looks at the release log.</p>
</section>
{% endif %}
{% if report.shadow %}
<section>
  <h2>Beside the champion</h2>
  <table><tr><th>from (UTC)<th class="n">payments<th class="n">it decided<th class="n">both agree
    <th class="n">alerts of both, of either's<th class="n">champion alerts<th class="n">it alerts
    <th class="n">score shift</tr>
  {% for w in report.shadow %}
  <tr><td>{{ when(w.start) }}<td class="n">{{ "{:,}".format(w.transactions) }}
      <td class="n">{{ "{:,}".format(w.by_challenger) }}<td class="n">{{ "{:.1%}".format(w.agreement) }}
      <td class="n">{{ "–" if w.overlap is none else "{:.1%}".format(w.overlap) }}
      <td class="n">{{ "{:.2%}".format(w.champion_alerts) }}<td class="n">{{ "{:.2%}".format(w.challenger_alerts) }}
      <td class="n">{{ "{:+.4f}".format(w.shift) }}</tr>
  {% endfor %}
  </table>
</section>
{% endif %}
<section class="card">{{ card }}</section>
"""
_TONES: Final = {"champion": "good", "rolled_back": "bad"}


def write_release_report(folder: Path, report: ReleaseReport) -> Path:
    """Write `release.json` and `release.html` into `folder`, each whole or not at all; returns the page's path."""
    write_whole(folder / "release.json", report.model_dump_json(indent=2))
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    page = render(
        GATES_TABLE + _BODY,
        title=f"Release {report.release.release_id}",
        report=report,
        tone=_TONES.get(report.release.state, ""),
        card=Markup(markdown.render(report.bundle.model_card)),  # it escapes what is not Markdown
    )
    return write_whole(folder / "release.html", page)
