"""The engine: from a formula and a data frame to a fitted mixed model."""

from course_lib.mixed.ar1 import Ar1Fit, fit_ar1
from course_lib.mixed.compare import LRTest, compare_models, exact_rlrt, lr_test
from course_lib.mixed.result import LmerResult, lmer

__all__ = [
    "Ar1Fit",
    "LRTest",
    "LmerResult",
    "compare_models",
    "exact_rlrt",
    "fit_ar1",
    "lmer",
    "lr_test",
]
