"""The terms of the distillation loss by their names, each in the module of what it compares.

Some terms of the literature are not here because with two classes they carry no signal: see
`riskdistill.config.distillation.DEGENERATE`.
"""

from riskdistill.distillation.terms.attention import AttentionMapTerm, RelationTerm, relation_kl, relations
from riskdistill.distillation.terms.batch import BatchCorrelationTerm, RankingTerm
from riskdistill.distillation.terms.logits import (
    LabelTerm,
    LogitTerm,
    TypologyTerm,
    bernoulli_kl,
    smoothed_labels,
    typology_kl,
)
from riskdistill.distillation.terms.states import FeatureTerm, HiddenStateTerm
from riskdistill.distillation.terms.term import RELATIONS_OF_EVERY, Heat, Setting, Taught, Term

TERMS: dict[str, type[Term]] = {
    "logits": LogitTerm,
    "labels": LabelTerm,
    "typology": TypologyTerm,
    "attention_relations": RelationTerm,
    "attention_maps": AttentionMapTerm,
    "hidden_states": HiddenStateTerm,
    "feature": FeatureTerm,
    "batch_correlation": BatchCorrelationTerm,
    "ranking": RankingTerm,
}

__all__ = [
    "RELATIONS_OF_EVERY",
    "TERMS",
    "Heat",
    "Setting",
    "Taught",
    "Term",
    "bernoulli_kl",
    "relation_kl",
    "relations",
    "smoothed_labels",
    "typology_kl",
]
