"""riskdistill: distil a large financial-crime model into one that scores every payment, with evidence."""

__version__ = "0.1.0"
