"""Currencies that the system knows, their names in published data sets, and rates to the US dollar.

The rates are fixed yearly averages (2022, Federal Reserve H.10 and market closes for the coins): good enough
to put amounts of one account on one scale, never for accounting.
"""

from __future__ import annotations

from typing import Final

# ISO 4217 code (XBT, XET: the market's codes for coins; XTS: ISO's code for tests, used by simulated money)
USD_PER_UNIT: Final[dict[str, float]] = {
    "USD": 1.0,
    "EUR": 1.0530,
    "GBP": 1.2371,
    "CHF": 1.0475,
    "JPY": 0.007627,
    "CNY": 0.1486,
    "INR": 0.01273,
    "AUD": 0.6941,
    "CAD": 0.7688,
    "BRL": 0.1937,
    "MXN": 0.04975,
    "RUB": 0.01490,
    "ILS": 0.2979,
    "SAR": 0.2665,
    "AED": 0.2723,
    "TRY": 0.06046,
    "MAD": 0.09860,
    "NGN": 0.002352,
    "ALL": 0.008857,
    "PKR": 0.004905,
    "SEK": 0.0989,
    "NOK": 0.1040,
    "DKK": 0.1414,
    "PLN": 0.2245,
    "SGD": 0.7253,
    "HKD": 0.1277,
    "XBT": 28_200.0,
    "XET": 1_980.0,
    "XTS": 1.0,
}

# Names as AMLworld and SAML-D spell them.
CODE_BY_NAME: Final[dict[str, str]] = {
    "US Dollar": "USD",
    "Euro": "EUR",
    "UK Pound": "GBP",
    "Swiss Franc": "CHF",
    "Yen": "JPY",
    "Yuan": "CNY",
    "Rupee": "INR",
    "Indian rupee": "INR",
    "Australian Dollar": "AUD",
    "Canadian Dollar": "CAD",
    "Brazil Real": "BRL",
    "Mexican Peso": "MXN",
    "Ruble": "RUB",
    "Shekel": "ILS",
    "Saudi Riyal": "SAR",
    "Bitcoin": "XBT",
    "UK pounds": "GBP",
    "US dollar": "USD",
    "Swiss franc": "CHF",
    "Dirham": "AED",
    "Turkish lira": "TRY",
    "Moroccan dirham": "MAD",
    "Naira": "NGN",
    "Albanian lek": "ALL",
    "Pakistani rupee": "PKR",
    "Mexican peso": "MXN",
}

CURRENCY_CODES: Final[tuple[str, ...]] = tuple(USD_PER_UNIT)
