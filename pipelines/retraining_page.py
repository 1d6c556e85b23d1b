"""The page of a retraining: every gate, what the champion misses, and what was made more of. It stands alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from monitoring.pages import GATES_TABLE, render, write_whole
from riskdistill.evaluation.gates import Gate
from riskdistill.evaluation.misses import ErrorAnalysis

_BODY: Final = """
<h1>Retraining of {{ told.champion.release }}</h1>
<p class="soft">{{ told.mode | replace("_", " ") }}, from bundle <code>{{ told.champion.bundle }}</code>; labels as
known at {{ told.labels_known_at }}. The same for machines: <a href="gates.json">gates.json</a>,
<a href="analysis.json">analysis.json</a>.</p>
<section>
  <h2>Gates:
  {% if failed %}<span class="bad">refused</span>{% else %}<span class="good">all passed</span>{% endif %}</h2>
  <p>Both models on {{ "{:,}".format(told.judged_on.rows) }} payments ({{ told.judged_on.laundering }} known to be
  laundering) from {{ told.judged_on["from"][:10] }} to {{ told.judged_on.to[:10] }}, which neither has learned
  from. Students are compared, without the teacher's help; intervals of 95 % are over whole schemes.</p>
  {{ gates_table(gates) }}
</section>
<section>
  <h2>What the champion missed before, and alerted for nothing</h2>
  <p>At {{ "%.2f" | format(100 * analysis.budget) }} % alerted, on {{ "{:,}".format(analysis.rows) }} later payments
  that do not judge; {{ analysis.laundering }} of them are known to be laundering.</p>
  <table><tr><th>by<th>part<th class="n">payments<th class="n">laundering<th class="n">missed<th class="n">recall
    <th class="n">false alerts<th class="n">made more of</tr>
  {% for line in analysis.lines %}
  <tr><td>{{ line.slice }}<td>{{ line.value }}<td class="n">{{ "{:,}".format(line.rows) }}
      <td class="n">{{ line.laundering }}<td class="n">{{ "%.0f" | format(line.missed) }}
      <td class="n">{{ "" if line.recall is none else "%.1f %%" | format(100 * line.recall) }}
      <td class="n">{{ "%.0f" | format(line.false_alerts) }}
      <td class="n">{{ "%.2g ×" | format(told.emphasis[line.value])
        if line.slice == "typology" and line.value in told.emphasis else "" }}</tr>
  {% endfor %}
  </table>
</section>
"""


def write_page(folder: Path, analysis: ErrorAnalysis, gates: Sequence[Gate], evidence: Mapping[str, Any]) -> Path:
    """Write `gates.json` and `index.html` into `folder`; returns the path of the page.

    Args:
        evidence: what the release log would keep.
    """
    write_whole(folder / "gates.json", json.dumps(evidence, indent=1) + "\n")
    failed = [gate for gate in gates if not gate.passed]
    page = render(
        GATES_TABLE + _BODY, title="Retraining", told=evidence, gates=gates, failed=failed, analysis=analysis
    )
    return write_whole(folder / "index.html", page)
