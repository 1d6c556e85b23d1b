"""The audit record: do the logs verify, who changed what served, on which figures, and what was decided.

It is a function of the logs alone, so that a reviewer can make it again and compare. The head hashes in
it, kept apart from the database, also betray a log whose newest entries were cut off later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from monitoring.pages import render, write_whole
from riskdistill.errors import AuditError
from riskdistill.storage.acts import Act
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.journal import Journal
from riskdistill.storage.releases import ReleaseLog, Transition
from riskdistill.storage.verification import VerifyResult

_BODY: Final = """
<h1>Audit record</h1>
<p class="soft">
{% if record.first_decision %}
Decisions from {{ record.first_decision.isoformat(" ", "seconds") }}
to {{ record.last_decision.isoformat(" ", "seconds") }}.
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
</section>
<section>
  <h2>What served, and why</h2>
  <table><tr><th class="n">#<th>when (UTC)<th>release<th>bundle<th>change<th>by<th>reason and figures</tr>
  {% for t in record.transitions %}
  <tr><td class="n">{{ t.sequence }}<td>{{ t.at.strftime("%F %T") }}
      <td>{{ t.release_id }}<td><code>{{ t.bundle_version }}</code>
      <td>{{ t.before or "" }} → <span class="{{ 'bad' if t.after == 'rolled_back' }}">{{ t.after }}</span>
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
  <table><tr><th>bundle<th>route<th>action<th class="n">decisions</tr>
  {% for count in record.decisions %}
  <tr><td><code>{{ count.bundle_version }}</code><td>{{ count.route }}<td>{{ count.action }}
      <td class="n">{{ "{:,}".format(count.decisions) }}</tr>
  {% endfor %}
  </table>
</section>
"""


class ChainCheck(BaseModel):
    """Whether a log verifies: its length, head and how many decisions were deleted of it, or its first fault."""

    model_config = ConfigDict(frozen=True)

    entries: int = 0
    head: str | None = None
    pruned: int = 0
    fault: str | None = None


class DecisionCount(BaseModel):
    """Decisions of one bundle, route and action."""

    model_config = ConfigDict(frozen=True)

    bundle_version: str
    route: str
    action: str
    decisions: int


class AuditRecord(BaseModel):
    """The audit record, JSON-able. What a broken log says is left out: it proves nothing."""

    model_config = ConfigDict(frozen=True)

    decision_log: ChainCheck
    release_log: ChainCheck
    journals: dict[str, ChainCheck] = Field(default_factory=dict)  # beside the decisions: cases, suppressions
    first_decision: datetime | None
    last_decision: datetime | None
    decisions: tuple[DecisionCount, ...]
    transitions: tuple[Transition, ...]
    acts: tuple[Act, ...] = ()

    @property
    def chains(self) -> dict[str, ChainCheck]:
        """What was found of each log."""
        return {"decisions": self.decision_log, "releases": self.release_log, **self.journals}

    @property
    def intact(self) -> bool:
        """Whether all logs verify."""
        return all(chain.fault is None for chain in self.chains.values())


def audit(releases: ReleaseLog, decisions: DecisionLog, journals: Sequence[Journal] = ()) -> AuditRecord:
    """Verify the logs and sum up what they hold.

    Args:
        journals: those that live beside the decisions, see `riskdistill.storage.desk_journals`.

    Raises:
        UnavailableError: a log cannot be read now.
    """
    decision_log, release_log = _check(decisions.verify), _check(releases.verify)
    counts: Counter[tuple[str, str, str]] = Counter()
    first = last = None
    verified = takewhile(lambda entry: entry.sequence <= decision_log.entries, decisions.read())
    for _, decision in verified:
        counts[decision.bundle_version, decision.route, decision.action] += 1
        first = min(first or decision.decided_at, decision.decided_at)
        last = max(last or decision.decided_at, decision.decided_at)
    return AuditRecord(
        decision_log=decision_log,
        release_log=release_log,
        journals={journal.log: _check(journal.verify) for journal in journals if journal.is_there()},
        first_decision=first,
        last_decision=last,
        decisions=tuple(
            DecisionCount(bundle_version=bundle, route=route, action=action, decisions=number)
            for (bundle, route, action), number in sorted(counts.items())
        ),
        transitions=() if release_log.fault else releases.history()[: release_log.entries],
        acts=tuple(act for sequence, act in decisions.acts() if sequence <= decision_log.entries),
    )


def write_audit_record(
    folder: Path, releases: ReleaseLog, decisions: DecisionLog, journals: Sequence[Journal] = ()
) -> Path:
    """Write `audit.json` and `audit.html` into `folder`, whole or not at all; returns the path of the page.

    Raises:
        UnavailableError: a log cannot be read now.
    """
    record = audit(releases, decisions, journals)
    write_whole(folder / "audit.json", record.model_dump_json(indent=2))
    return write_whole(folder / "audit.html", render(_BODY, title="Audit record", record=record))


def _check(verify: Callable[[], VerifyResult]) -> ChainCheck:
    try:
        found = verify()
    except AuditError as error:
        return ChainCheck(fault=str(error))
    return ChainCheck(entries=found.entries, head=found.head, pruned=found.pruned)
