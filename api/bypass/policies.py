"""What wants the teacher: the student's score, or what the transaction is."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from api.bypass.customer_classes import Account
from api.bypass.settings import PolicySettings
from api.path.pseudonyms import Pseudonyms
from riskdistill.bundle import Thresholds
from riskdistill.data.rates import Rates
from riskdistill.data.transaction import Transaction
from riskdistill.storage.decisions import WantedReason

_DRAW: Final = "\0sample\0"  # before the transaction's id: no account id holds such a character
_DIGITS: Final = 13  # hexadecimal, of a draw: as many bits as a float keeps exactly
Rule = tuple[WantedReason, Callable[[Transaction], bool]]


class Policies:
    """The configured policies, for transactions with pseudonyms.

    Args:
        settings: which hold.
        rates: dollars per unit as of a day, as the features count them.
        pseudonyms: their key draws the sample, so that nobody outside can tell what is drawn.
        accounts: of the chosen classes of customers, beside what a transaction says itself.
    """

    def __init__(
        self, settings: PolicySettings, rates: Rates, pseudonyms: Pseudonyms, accounts: Collection[Account]
    ) -> None:
        self.sample = settings.sample
        self._settings, self._rates, self._pseudonyms, self._accounts = settings, rates, pseudonyms, accounts
        of_score = {"above_threshold": settings.above_threshold, "uncertain": settings.uncertain}
        self._of_score = {reason for reason, holds in of_score.items() if holds}
        rules: list[tuple[bool, Rule]] = [
            (settings.amount_usd is not None, ("amount", self._is_large)),
            (bool(settings.countries), ("country", self._is_of_country)),
            (bool(settings.payment_formats), ("payment_format", self._is_of_format)),
            (settings.customer_classes is not None, ("customer_class", self._is_of_class)),
            (settings.sample is not None, ("sampled", self._is_drawn)),
        ]
        self._rules = [rule for is_set, rule in rules if is_set]

    def wanted(self, thresholds: Thresholds, transaction: Transaction, score: float) -> tuple[WantedReason, ...]:
        """All reasons why the teacher is wanted, given the student's `score`; none where the student decides."""
        reason = thresholds.bypass(score)
        stated = tuple([name for name, holds in self._rules if holds(transaction)]) if self._rules else ()
        return (reason, *stated) if reason is not None and reason in self._of_score else stated

    def _is_large(self, transaction: Transaction) -> bool:
        seconds = transaction.timestamp.timestamp()
        paid = transaction.amount_paid * self._rates.at(transaction.currency_paid, seconds)
        received = transaction.amount_received * self._rates.at(transaction.currency_received, seconds)
        assert self._settings.amount_usd is not None
        return max(paid, received) >= self._settings.amount_usd

    def _is_of_country(self, transaction: Transaction) -> bool:
        countries = self._settings.countries
        return transaction.sender_country in countries or transaction.receiver_country in countries

    def _is_of_format(self, transaction: Transaction) -> bool:
        return transaction.payment_format.casefold() in self._settings.payment_formats

    def _is_of_class(self, transaction: Transaction) -> bool:
        assert self._settings.customer_classes is not None
        classes = self._settings.customer_classes.classes
        return (
            transaction.sender_class in classes
            or transaction.receiver_class in classes
            or (transaction.sender_bank, transaction.sender_account) in self._accounts
            or (transaction.receiver_bank, transaction.receiver_account) in self._accounts
        )

    def _is_drawn(self, transaction: Transaction) -> bool:
        """By the keyed hash of the id: the same transaction sent again is drawn again."""
        digest = self._pseudonyms.of(_DRAW + transaction.tx_id)
        assert self.sample is not None
        return int(digest[:_DIGITS], 16) < self.sample * 16**_DIGITS
