"""Whether the search ended well, and whether the assumptions hold."""

from course_lib.diagnostics.convergence import (
    all_optimizers,
    check_convergence,
    random_effects_pca,
)
from course_lib.diagnostics.envelope import (
    binned_means,
    binned_spreads,
    check_up,
    group_slope_spread,
    simulated_envelope,
    sorted_modes,
    sorted_residuals,
)
from course_lib.diagnostics.influence import influence
from course_lib.diagnostics.residuals import (
    random_effects_frame,
    residual_frame,
)
from course_lib.diagnostics.variance_explained import icc, r2, variance_parts

__all__ = [
    "all_optimizers",
    "binned_means",
    "binned_spreads",
    "check_convergence",
    "check_up",
    "group_slope_spread",
    "icc",
    "influence",
    "r2",
    "random_effects_frame",
    "random_effects_pca",
    "residual_frame",
    "simulated_envelope",
    "sorted_modes",
    "sorted_residuals",
    "variance_parts",
]
