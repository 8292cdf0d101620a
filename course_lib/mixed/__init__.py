"""The engine: from a formula and a data frame to a fitted mixed model."""

from course_lib.mixed.compare import LRTest, compare_models, exact_rlrt, lr_test
from course_lib.mixed.result import LmerResult, lmer

__all__ = ["LRTest", "LmerResult", "compare_models", "exact_rlrt", "lmer", "lr_test"]
