"""A prediction and its reasons."""

from course_lib.explain.counterfactual import Counterfactual, counterfactual
from course_lib.explain.enrichment import pathway_enrichment
from course_lib.explain.grad_cam import (
    class_scores,
    erase_squares,
    feature_maps,
    grad_cam,
    predict_proba,
    train_net,
)
from course_lib.explain.log import ExplanationLog, hash_inputs
from course_lib.explain.shapley import linear_shap
from course_lib.explain.surrogate import (
    LocalSurrogate,
    local_surrogate,
    partial_dependence_frame,
)

__all__ = [
    "Counterfactual",
    "ExplanationLog",
    "LocalSurrogate",
    "class_scores",
    "counterfactual",
    "erase_squares",
    "feature_maps",
    "grad_cam",
    "hash_inputs",
    "linear_shap",
    "local_surrogate",
    "partial_dependence_frame",
    "pathway_enrichment",
    "predict_proba",
    "train_net",
]
