"""Features: what an account's past says of a payment, computed by one bounded streaming step."""

from riskdistill.features.encoded import Encoded
from riskdistill.features.engine import FeatureEngine
from riskdistill.features.spec import Feature, FeatureSpec

__all__ = ["Encoded", "Feature", "FeatureEngine", "FeatureSpec"]
