"""Features: what an account's past says of a payment, computed by one bounded streaming step.

For scikit-learn pipelines see `transformer`, for state in Redis `redis_state`; import them where they are used.
"""

from riskdistill.features.encoded import Encoded
from riskdistill.features.engine import FeatureEngine
from riskdistill.features.spec import Feature, FeatureSpec

__all__ = ["Encoded", "Feature", "FeatureEngine", "FeatureSpec"]
