"""The audit record for people, and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from monitoring.audit import AuditRecord
from monitoring.pages import render, write_whole

_BODY: Final = """
{% macro when(moment) %}{{ moment.isoformat(" ", "seconds") }}{% endmacro %}
<h1>Audit record</h1>
<p class="soft">
{% if record.start or record.end %}
Asked for{% if record.start %} from {{ when(record.start) }}{% endif %}
{% if record.end %} until {{ when(record.end) }}{% endif %}.
{% endif %}
{% if record.first_decision %}
Decisions from {{ when(record.first_decision) }} to {{ when(record.last_decision) }}.
{% else %}
No decision was made.
{% endif %}
The same in full, for machines: <a href="audit.json">audit.json</a>.</p>
<section>
  <h2>Integrity</h2>
  <table><tr><th>log<th>hash chain<th class="n">entries<th>head</tr>
  {% for name, chain in record.chains.items() %}
  <tr><td>{{ name }}
      <td>{% if chain.fault %}<span class="bad">broken: {{ chain.fault }}</span>
          {% else %}<span class="good">verifies</span>{% endif %}
      <td class="n">{{ "{:,}".format(chain.entries) }}
          {% if chain.pruned %}({{ "{:,}".format(chain.pruned) }} deleted){% endif %}
      <td><code>{{ chain.head or "–" }}</code></tr>
  {% endfor %}
  </table>
  <p class="soft">Each log is checked from its first entry to its last, whatever the period.</p>
</section>
<section>
  <h2>What served, and why</h2>
  <table><tr><th class="n">#<th>when (UTC)<th>release<th>bundle<th>change<th>by<th>reason and figures</tr>
  {% for t in record.transitions %}
  <tr><td class="n">{{ t.sequence }}<td>{{ t.at.strftime("%F %T") }}
      <td>{{ t.release_id }}<td><code>{{ t.bundle_version }}</code>
      <td>{% if t.said %}{{ t.said }}{% else %}{{ t.before or "" }} →
          <span class="{{ 'bad' if t.after == 'rolled_back' }}">{{ t.after.replace("_", " ") }}</span>
          {% if t.share %}{{ "{:.1%}".format(t.share) }}{% endif %}{% endif %}
      <td>{{ t.actor }}
      <td>{{ t.reason }}{% if t.evidence %}<details><summary>figures</summary>
          <pre>{{ t.evidence | tojson(indent=2) }}</pre></details>{% endif %}</tr>
  {% endfor %}
  </table>
</section>
{% if record.acts %}
<section>
  <h2>What was done to the decision log</h2>
  <table><tr><th>when (UTC)<th>act<th>by<th>reason and figures</tr>
  {% for act in record.acts %}
  <tr><td>{{ act.at.strftime("%F %T") }}<td>{{ act.kind.replace("_", " ") }}<td>{{ act.actor }}
      <td>{{ act.reason }}<details><summary>figures</summary>
          <pre>{{ act.details | tojson(indent=2) }}</pre></details></tr>
  {% endfor %}
  </table>
</section>
{% endif %}
<section>
  <h2>What was decided</h2>
  <table><tr><th>bundle<th>band<th>route<th>action<th class="n">decisions</tr>
  {% for count in record.decisions %}
  <tr><td><code>{{ count.bundle_version }}</code><td>{{ count.band }}<td>{{ count.route.replace("_", " ") }}
      <td>{{ count.action }}<td class="n">{{ "{:,}".format(count.decisions) }}</tr>
  {% endfor %}
  </table>
</section>
{% if record.reasons %}
<section>
  <h2>Reasons of the alerts</h2>
  <table><tr><th>reason<th class="n">alerts that name it<th class="n">as the strongest</tr>
  {% for reason in record.reasons %}
  <tr><td><code>{{ reason.code }}</code><td class="n">{{ "{:,}".format(reason.alerts) }}
      <td class="n">{{ "{:,}".format(reason.strongest) }}</tr>
  {% endfor %}
  </table>
</section>
{% endif %}
{% if record.bypass %}
<section>
  <h2>Where the teacher was wanted</h2>
  <table><tr><th>because<th>what came of it<th class="n">decisions<th class="n">other action than the student's
    <th class="n">band raised<th class="n">cost</tr>
  {% for asked in record.bypass %}
  <tr><td>{{ asked.wanted | join(", ") | replace("_", " ") }}<td>{{ asked.outcome.replace("_", " ") }}
      <td class="n">{{ "{:,}".format(asked.decisions) }}<td class="n">{{ "{:,}".format(asked.changed) }}
      <td class="n">{{ "{:,}".format(asked.raised) }}<td class="n">{{ "{:,.4g}".format(asked.cost) }}</tr>
  {% endfor %}
  </table>
</section>
{% endif %}
{% if record.suppressed %}
<section>
  <h2>Alerts that people let pass</h2>
  <table><tr><th>suppression<th class="n">alerts<th class="n">would have been held<th>owner<th>added by<th>ends
    <th>reason</tr>
  {% for one in record.suppressed %}
  <tr><td>{{ one.suppression_id }}<td class="n">{{ "{:,}".format(one.alerts) }}
      <td class="n">{{ "{:,}".format(one.held) }}
      {% if one.entry %}<td>{{ one.entry.owner }}<td>{{ one.entry.added_by }}<td>{{ when(one.entry.expires_at) }}
      <td>{{ one.entry.reason }}{% else %}<td colspan="4">its journal is not at hand{% endif %}</tr>
  {% endfor %}
  </table>
</section>
{% endif %}
"""


def write_audit_record(folder: Path, record: AuditRecord) -> Path:
    """Write `audit.json` and `audit.html` into `folder`, each whole or not at all; returns the path of the page."""
    write_whole(folder / "audit.json", record.model_dump_json(indent=2))
    return write_whole(folder / "audit.html", render(_BODY, title="Audit record", record=record))
