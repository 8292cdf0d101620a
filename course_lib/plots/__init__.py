"""Pictures: a tidy frame and an `ax` in, the same `ax` out; nothing is fitted here."""

from course_lib.plots.assumptions import (
    envelope_plot,
    memory_plot,
    related_plot,
    spread_plot,
    trend_plot,
)
from course_lib.plots.estimates import (
    caterpillar,
    covariance_ellipse,
    interval_plot,
    qq_plot,
    residual_plot,
    shrinkage_plot,
)
from course_lib.plots.groups import (
    label_plot,
    level_slopes,
    missingness_map,
    small_multiples,
    spaghetti,
)
from course_lib.plots.panel import gap_plot, within_between_plot
from course_lib.plots.style import COLOUR

__all__ = [
    "COLOUR",
    "caterpillar",
    "covariance_ellipse",
    "envelope_plot",
    "gap_plot",
    "interval_plot",
    "level_slopes",
    "label_plot",
    "memory_plot",
    "missingness_map",
    "qq_plot",
    "related_plot",
    "residual_plot",
    "shrinkage_plot",
    "small_multiples",
    "spaghetti",
    "within_between_plot",
    "spread_plot",
    "trend_plot",
]
