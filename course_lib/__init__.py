"""Helper library of a course on multilevel (mixed-effects) models in Python.

The map, floor by floor; each wing imports only from the floors above it:

==================== ================================================================
wing                 concept
==================== ================================================================
errors               checks on arguments; the one error type `CourseError`
-------------------- ----------------------------------------------------------------
datasets, simulate   `load` and `describe` the bundled data; data with known truth
reshape              wide <-> long, nested records, level codes, within/between
mixed                from a formula and a data frame to a fitted mixed model
plots                pictures of tidy frames; nothing is fitted
-------------------- ----------------------------------------------------------------
panel                fixed effects, random effects, Mundlak; Hausman test
diagnostics          did the search end well; residuals, influence, envelopes, ICC, R²
explain              a prediction and its reasons
-------------------- ----------------------------------------------------------------
exercises            `check` an answer, `progress`
==================== ================================================================
"""

from course_lib.datasets import describe, load
from course_lib.errors import CourseError
from course_lib.mixed import LmerResult, compare_models, exact_rlrt, fit_ar1, lmer, lr_test

__all__ = [
    "CourseError",
    "LmerResult",
    "compare_models",
    "describe",
    "exact_rlrt",
    "fit_ar1",
    "lmer",
    "load",
    "lr_test",
]
