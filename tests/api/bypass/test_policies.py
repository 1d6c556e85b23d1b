"""What wants the teacher: scores, amounts in dollars, countries, formats, classes of customers, the sample."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_serving import THRESHOLDS, body
from hypothesis import given, settings
from hypothesis import strategies as st

from api.bypass.customer_classes import accounts_of
from api.bypass.policies import Policies
from api.bypass.settings import CustomerClasses, PolicySettings
from api.path.pseudonyms import Pseudonyms
from riskdistill.data.rates import Rates
from riskdistill.data.transaction import Transaction
from riskdistill.errors import DataError

PSEUDONYMS = Pseudonyms("0123456789abcdef")


def policies(rates: Rates | None = None, **settings: Any) -> Policies:
    told = PolicySettings.model_validate(settings)
    accounts = accounts_of(told.customer_classes, PSEUDONYMS)
    return Policies(told, rates or Rates.fixed(), PSEUDONYMS, accounts)


def wanted(chosen: Policies, score: float = 0.1, **changes: Any) -> tuple[str, ...]:
    transaction = PSEUDONYMS.transaction(Transaction.model_validate(body(**changes)))
    return chosen.wanted(THRESHOLDS, transaction, score)


@pytest.mark.parametrize(
    ("score", "reasons"), [(0.39, ()), (0.4, ("uncertain",)), (0.6, ()), (0.89, ()), (0.9, ("above_threshold",))]
)
def test_by_default_the_bundle_s_thresholds_choose(score: float, reasons: tuple[str, ...]) -> None:
    assert wanted(policies(), score) == reasons
    assert wanted(policies(above_threshold=False, uncertain=False), score) == ()


def test_amounts_are_counted_in_dollars_at_the_rate_of_their_day() -> None:
    day = 20_513  # 1 March 2026
    chosen = policies(Rates({"EUR": {day: 2.0, day + 1: 1.0}}), amount_usd=1_000)
    assert wanted(chosen, amount=500.0) == ("amount",)
    assert wanted(chosen, amount=499.0) == ()
    assert wanted(chosen, amount=500.0, timestamp="2026-03-02T00:00:00Z") == ()
    assert wanted(chosen, amount=1.0, amount_received=1_000.0, currency_received="USD") == ("amount",)


def test_countries_count_on_either_side_and_unknown_ones_do_not() -> None:
    chosen = policies(countries=["NO", "KP"])
    assert wanted(chosen, sender_country="NO", receiver_country="DE") == ("country",)
    assert wanted(chosen, sender_country="DE", receiver_country="KP") == ("country",)
    assert wanted(chosen, sender_country="DE") == wanted(chosen) == ()


def test_payment_formats_count_in_capitals_or_not() -> None:
    assert wanted(policies(payment_formats=["Bitcoin"]), payment_format="BITCOIN") == ("payment_format",)
    assert wanted(policies(payment_formats=["Bitcoin"]), payment_format="Wire") == ()


def test_all_reasons_are_told_in_a_fixed_order() -> None:
    chosen = policies(amount_usd=1, countries=["DE"], payment_formats=["wire"], sample=1.0)
    found = wanted(chosen, 0.95, sender_country="DE")
    assert found == ("above_threshold", "amount", "country", "payment_format", "sampled")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "classes.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_customers_of_a_class_are_known_by_bank_and_account_and_kept_as_pseudonyms(
    write: Callable[[str], Path],
) -> None:
    path = write("bank,account,class\nBANK1,DE-sender,pep\nBANK9,FR-receiver,pep\nBANK2,FR-receiver,retail\n")
    of_pep = CustomerClasses(file=path, classes=frozenset({"pep"}))
    assert accounts_of(of_pep, PSEUDONYMS) == {
        ("BANK1", PSEUDONYMS.of("DE-sender")),
        ("BANK9", PSEUDONYMS.of("FR-receiver")),
    }
    chosen = policies(customer_classes=of_pep)
    assert wanted(chosen) == ("customer_class",)
    assert wanted(chosen, sender_account="another") == ()  # BANK2's account of that name is another's
    assert wanted(chosen, sender_account="another", receiver_bank="BANK9") == ("customer_class",)


def test_a_transaction_may_say_its_class_itself_and_then_needs_no_file() -> None:
    chosen = policies(customer_classes=CustomerClasses(classes=frozenset({"pep"})))
    assert wanted(chosen, sender_class="pep") == wanted(chosen, receiver_class="pep") == ("customer_class",)
    assert wanted(chosen, sender_class="retail") == wanted(chosen) == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("bank,account\nB,a\n", "class"),
        ("bank,account,class\nB,a,pep\nB,,pep\n", "row 2: .*empty"),
        ("bank,account,class\nB,a,pep,more\n", "row 1"),
    ],
)
def test_a_file_of_classes_that_is_none_is_refused_with_its_row(
    write: Callable[[str], Path], text: str, says: str
) -> None:
    with pytest.raises(DataError, match=says) as caught:
        accounts_of(CustomerClasses(file=write(text), classes=frozenset({"pep"})), PSEUDONYMS)
    assert "classes.csv" in str(caught.value)


def test_a_class_without_accounts_is_told_but_no_error(
    write: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = write("bank,account,class\nB,a,retail\n")
    with caplog.at_level(logging.WARNING):
        assert accounts_of(CustomerClasses(file=path, classes=frozenset({"pep"})), PSEUDONYMS) == frozenset()
    assert "'pep'" in caplog.text


@given(share=st.floats(0.001, 1), tx_id=st.text("abc123-", min_size=1, max_size=40), score=st.floats(0, 1))
def test_the_draw_hangs_on_the_id_alone_and_a_larger_share_draws_the_same_and_more(
    share: float, tx_id: str, score: float
) -> None:
    chosen = policies(sample=share, above_threshold=False, uncertain=False)
    drawn = wanted(chosen, score, tx_id=tx_id)
    assert drawn == wanted(chosen, 0.0, tx_id=tx_id, amount=77.0)
    assert drawn in ((), ("sampled",))
    if drawn:
        assert wanted(policies(sample=min(1.0, 2 * share)), 0.0, tx_id=tx_id) == drawn


@settings(max_examples=30)
@given(share=st.floats(0.01, 0.99), start=st.integers(0, 10**9))
def test_the_share_that_is_drawn_is_the_share_that_was_asked_for(share: float, start: int) -> None:
    chosen, size = policies(sample=share), 500
    transaction = PSEUDONYMS.transaction(Transaction.model_validate(body()))
    drawn = sum(
        bool(chosen.wanted(THRESHOLDS, transaction.model_copy(update={"tx_id": f"{start + number}"}), 0.0))
        for number in range(size)
    )
    assert abs(drawn / size - share) < 6 * (share * (1 - share) / size) ** 0.5  # six standard deviations


def test_nobody_without_the_key_can_tell_what_is_drawn() -> None:
    transaction = Transaction.model_validate(body())
    others = Policies(PolicySettings(sample=0.5), Rates.fixed(), Pseudonyms("another key of 16"), ())
    ours = policies(sample=0.5)
    ids = [transaction.model_copy(update={"tx_id": f"t{number}"}) for number in range(64)]
    assert [ours.wanted(THRESHOLDS, tx, 0) for tx in ids] != [others.wanted(THRESHOLDS, tx, 0) for tx in ids]
