"""Segments: which part of the traffic a payment belongs to, by bank, channel, country and class of customer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from traffic_log import EXPECTED, REVIEW, Logs, controller, decide, traffic

from monitoring.evidence import Expectation
from monitoring.segments import MOST, segment_rows, segments_of
from riskdistill.data.schema import TRANSACTIONS
from riskdistill.data.transaction import to_table
from riskdistill.storage.decisions import Decision, DecisionLog


def payments(**columns: list[str | None]) -> pa.Table:
    """Canonical payments that are alike but for these columns."""
    table = to_table([decide(0.1).transaction for _ in range(len(next(iter(columns.values()))))])
    for name, values in columns.items():
        place = TRANSACTIONS.get_field_index(name)
        table = table.set_column(place, TRANSACTIONS.field(place), pa.array(values, pa.string()))
    return table


def test_a_payment_is_in_one_segment_of_each_dimension_that_is_known() -> None:
    told = decide(0.1, sender_class="retail", receiver_class="pep").transaction
    assert segments_of(told) == ("bank=b", "channel=wire", "class=retail")
    assert segments_of(decide(0.1).transaction) == ("bank=b", "channel=wire")


def test_classes_of_senders_are_watched_and_those_that_are_not_known_are_no_segment() -> None:
    rows = segment_rows(payments(sender_class=["retail"] * 5 + ["business"] * 3 + [None] * 2))
    assert list(rows) == ["class=retail", "class=business"], (
        "the largest first; one bank and one channel are the whole"
    )
    np.testing.assert_array_equal(rows["class=business"], [False] * 5 + [True] * 3 + [False] * 2)


def test_small_segments_are_left_out_and_no_more_are_watched_than_the_budget_bears() -> None:
    rare = payments(sender_class=["retail"] * 99 + ["pep"])
    assert list(segment_rows(rare)) == ["class=retail"]
    assert list(segment_rows(rare, ["class=pep"])) == ["class=pep"], "unless it is settled that it is watched"
    assert len(segment_rows(payments(sender_class=[f"class {n}" for n in range(20)]))) == MOST


def test_harm_to_one_class_of_customers_is_shown_in_its_segment(logs: Logs) -> None:
    expected = Expectation(REVIEW, EXPECTED.alert_rate, {"class=business": 0.02, "class=retail": 0.02})
    for name, share in (("business", 0.3), ("retail", 0.0)):
        rows = traffic(600, share, 0.0, 0.02, seed=1)
        logs[1].append(
            [
                row.model_copy(update={"transaction": row.transaction.model_copy(update={"sender_class": name})})
                for row in rows
            ]
        )
    verdict = controller(logs, expected).look()
    assert verdict.action == "rolled_back"
    harmed = {measure.segment for measure in verdict.measures if measure.harm}
    assert "class=business" in harmed
    assert "class=retail" not in harmed


def test_a_log_without_classes_reads_and_hashes_as_before_there_were_any(tmp_path: Path) -> None:
    old = decide(0.1).model_dump_json()
    assert "class" not in old
    read = Decision.model_validate_json(old)
    assert read.model_dump_json() == old, "the chain covers these bytes"
    log = DecisionLog(f"sqlite:///{tmp_path}/decisions.db")
    log.append([read, decide(0.1, sender_class="retail")])
    assert log.verify().entries == 2
    assert [one.decision.transaction.sender_class for one in log.read()] == [None, "retail"]
