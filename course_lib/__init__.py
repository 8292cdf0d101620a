"""Helper library of a course on multilevel (mixed-effects) models in Python.

The map, in the order in which data flow:

=================== =================================================================
module              concept
=================== =================================================================
validate            checks on arguments; the one error type `CourseError`
datasets            `load` and `describe` the bundled data
simulate            multilevel data with known truth
waves               wide <-> long, without loss
nested              nested records -> rows; codes that keep the parent
reshape             within/between, variance by level, filling; door to waves and nested
formula             lme4's formula as text -> parts
model_frame         formula + data -> design matrices, also for new data
cross_products      Z'Z, Z'[X y] and [X y]'[X y]: all that the engine needs of the data
profiled_deviance   the numerical core: deviance and exact gradient, NumPy only
standardise         into units in which every column has mean square one, and back
estimate            search θ, solve, transform back
inference           Satterthwaite df, profile intervals, bootstrap, on arrays
intervals           the same as labelled tables
prediction          predict and simulate from a fit
summary             text and HTML display of a fit
lmer                `lmer` and its result
to_statsmodels      the same fit as a statsmodels result
nesting             whether one model is a special case of another
refit_deviances     bootstrap refits of which only the deviance is wanted
compare             tables of AIC and BIC; likelihood-ratio tests
exact_test          the exact restricted test of one variance
convergence         whether the search ended at the optimum; scales, optimiser paths
residuals           residuals and random effects as tables, leverages
influence           leave out one group at a time
envelope            statistics of a fit, and what they would be if the model were true
diagnostics         normality tests, ICC, R²; door to residuals, influence and envelope
panel               fixed effects, random effects, Mundlak; Hausman test
shapley_parts       a prediction as a sum of parts; Shapley's weights
gaussian_shap       Shapley values of a straight line in jointly normal predictors
linear_shap         exact Shapley values of a mixed model, the group as one more player
predictor           any model as a checked function: rows in, one number a row out
explain             local surrogate (LIME), partial dependence
counterfactual      the smallest change that reaches a target
grad_cam            a small convolutional net, and what it looks at
explanation_log     predictions and their drivers, kept in SQLite
plot_parts          palette, labels and checks of the pictures
fit_plots           pictures of estimates
plots               pictures of data; door to fit_plots
exercises           `check` an answer, `progress`
=================== =================================================================
"""

from course_lib.compare import compare_models, lr_test
from course_lib.datasets import describe, load
from course_lib.lmer import LmerResult, lmer
from course_lib.validate import CourseError

__all__ = [
    "CourseError",
    "LmerResult",
    "compare_models",
    "describe",
    "lmer",
    "load",
    "lr_test",
]
