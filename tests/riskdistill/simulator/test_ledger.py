"""Balances add up to the cent, and nobody pays what is not there."""

from __future__ import annotations

import numpy as np
import pytest

from riskdistill.simulator import PRESETS, Simulated, SimulationConfig, simulate
from riskdistill.simulator.clock import Window
from riskdistill.simulator.ledger import HIGH, LOW, Ledger
from riskdistill.simulator.payments import Payments, pay
from riskdistill.simulator.population import Kind, Population, populate

WEEK = Window(PRESETS["tiny"].start, 0, 7)


@pytest.fixture(scope="module")
def population() -> Population:
    return populate(200, 4, 30, np.random.default_rng(1))


@pytest.fixture
def ledger(population: Population) -> Ledger:
    return Ledger(population, np.random.default_rng(2))


def payments(population: Population, sender: int, receiver: int, times: int) -> Payments:
    parties = np.full(times, sender), np.full(times, receiver)
    made = pay(
        population,
        np.random.default_rng(3),
        time=np.arange(float(times)) / times,
        sender=parties[0],
        receiver=parties[1],
        value=np.ones(times),
    )
    assert len(made) == times
    return made


def two_open_accounts(population: Population) -> tuple[int, int]:
    usable = (population.kind == Kind.PERSON) & (population.awake <= 0) & (population.closed > 30)
    first, second = np.flatnonzero(usable)[:2]
    return int(first), int(second)


@pytest.mark.parametrize("config", [PRESETS["tiny"], SimulationConfig(accounts=300, days=21, seed=5)])
def test_each_reported_balance_follows_from_the_one_before(config: SimulationConfig) -> None:
    simulated = simulate(config)
    frame = simulated.transactions.to_pandas()
    held: dict[str, float] = {}
    checked = 0
    for row in frame.itertuples():
        moves = (
            (row.sender_account, row.sender_balance, -row.amount_paid),
            (row.receiver_account, row.receiver_balance, row.amount_received),
        )
        for account, balance, change in moves:
            if np.isnan(balance):
                continue
            if account in held:
                assert balance == pytest.approx(held[account], abs=0.005), row.tx_id
                checked += 1
            held[account] = balance + change
    assert checked > len(frame)


def test_a_payment_beyond_the_overdraft_is_refused_and_moves_nothing(
    population: Population, ledger: Ledger
) -> None:
    sender, receiver = two_open_accounts(population)
    ledger.balance[[sender, receiver]] = 0
    limit = int(100 * ledger.patience[sender] * ledger.means[sender])
    amounts = np.array([limit - 5, 100, 5], np.int64)
    happens, before = ledger.post(payments(population, sender, receiver, 3), amounts, amounts, 1.0)
    assert happens.tolist() == [True, False, True]
    assert ledger.balance[sender] == -limit
    assert ledger.balance[receiver] == limit
    assert before[:, 2].tolist() == [(5 - limit) / 100, (limit - 5) / 100]


def test_treasuries_fill_accounts_that_ran_low_and_take_from_those_with_plenty(
    population: Population, ledger: Ledger
) -> None:
    customers = ~ledger.counters
    ledger.balance[:] = np.where(np.arange(len(population)) % 2, 0.5 * LOW, 2 * HIGH) * 100 * ledger.means
    moved = ledger.transfers(WEEK, 1.0, np.random.default_rng(4))
    drawn = population.kind[moved.sender] == Kind.TREASURY
    assert set(moved.receiver[drawn] % 2) == {1}
    assert set(moved.sender[~drawn] % 2) == {0}
    assert customers[moved.receiver[drawn]].all()
    assert (population.bank[moved.sender] == population.bank[moved.receiver]).all()


def test_counters_have_no_balance_on_a_payment(population: Population) -> None:
    simulated: Simulated = simulate(PRESETS["tiny"])
    frame = simulated.transactions.to_pandas()
    assert frame["sender_balance"].isna().any()
    cash = frame[frame["payment_format"] == "cash"]
    assert cash[["sender_balance", "receiver_balance"]].isna().any(axis=1).mean() > 0.5
