"""Synthetic training rows: perturbations and grafted schemes, as transactions *before* the feature engine.

Features are then those that such traffic would have had. Nothing is placed outside the training period, and
every perturbation declares what it does to the label, its bounds and what it conserves. What acts on rows that are
encoded already is in `encodings`, which is not imported here: it needs PyTorch, and a configuration does not.
"""

from riskdistill.augmentation.grafting import synthetic_anomalies
from riskdistill.augmentation.perturbation import Perturbation
from riskdistill.augmentation.registry import PERTURBATIONS, Perturbed, perturb
from riskdistill.augmentation.rows import sources

__all__ = ["PERTURBATIONS", "Perturbation", "Perturbed", "perturb", "sources", "synthetic_anomalies"]
