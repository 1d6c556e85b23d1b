"""Why a score is what it is, in words: what moved the model, told from a versioned catalogue of sentences."""

from riskdistill.reasons.catalogue import Catalogue
from riskdistill.reasons.occlusion import MATERIAL, Explanation, Reason, explain

__all__ = ["MATERIAL", "Catalogue", "Explanation", "Reason", "explain"]
