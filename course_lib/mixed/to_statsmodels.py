"""Hand a fit over to statsmodels, whose tools then start at this optimum."""

from __future__ import annotations

import numpy as np
import pandas as pd

from course_lib.errors import CourseError, course_error
from course_lib.mixed.design import GroupFactor, ModelFrame
from course_lib.mixed.search import Estimate

__all__ = ["to_statsmodels"]


def to_statsmodels(frame: ModelFrame, estimate: Estimate, reml: bool):
    """Build the statsmodels ``MixedLM`` of the same model and stop it at this optimum.

    What ``mixedlm`` can express: one grouping factor, correlated or with ``||``; or a second
    factor nested in it whose coefficients are uncorrelated, as in ``(1 | a/b)``, which becomes
    a variance component. The optimiser is given no iteration, so it cannot drift.

    Parameters
    ----------
    frame : ModelFrame
        Design of the fit.
    estimate : Estimate
        Not singular: statsmodels inverts the covariance of the random effects.
    reml : bool
        Whether the fit is by REML.

    Returns
    -------
    statsmodels.regression.mixed_linear_model.MixedLMResults

    Raises
    ------
    CourseError
        If the fit is singular or statsmodels cannot express the model.
    """
    from statsmodels.regression.mixed_linear_model import MixedLM, MixedLMParams

    if estimate.is_singular:
        rule = "must not be singular: statsmodels inverts the covariance of the random effects"
        advice = "Drop that random effect, or stay with this result."
        raise course_error("fit", rule, "a variance of 0 or a correlation of ±1", advice)
    outer, inner = _outer_and_inner(frame.factors)
    groups = outer.codes
    names = [str(level) for level in outer.levels]
    relative = [cov / estimate.sigma**2 for cov in estimate.cov_re]
    vc_spec, vcomp = None, None
    if inner is not None:
        vc_spec, vcomp = _components(relative[frame.factors.index(inner)], outer, inner)
    model = MixedLM(
        pd.Series(frame.y, name=frame.parsed.response),
        pd.DataFrame(frame.X, columns=list(frame.fixed_names)),
        groups=np.array(names)[groups],
        exog_re=pd.DataFrame(outer.columns, columns=list(outer.terms)),
        exog_vc=vc_spec,
    )
    cov_re = relative[frame.factors.index(outer)]
    start = MixedLMParams.from_components(fe_params=estimate.beta, cov_re=cov_re, vcomp=vcomp)
    free = MixedLMParams.from_components(
        fe_params=np.ones(len(estimate.beta)),
        cov_re=(outer.mask | outer.mask.T).astype(float),
        vcomp=None if vcomp is None else np.ones(len(vcomp)),
    )
    return model.fit(
        start_params=start, reml=reml, free=free, method="lbfgs", maxiter=0, disp=False
    )


def _outer_and_inner(
    factors: tuple[GroupFactor, ...],
) -> tuple[GroupFactor, GroupFactor | None]:
    if len(factors) == 1:
        return factors[0], None
    if len(factors) == 2:
        for inner, outer in (factors, factors[::-1]):
            pairs = pd.DataFrame({"inner": inner.codes, "outer": outer.codes}).drop_duplicates()
            if not pairs["inner"].is_unique:
                continue
            if int(inner.mask.sum()) == len(inner.terms):
                return outer, inner
            raise _inexpressible(f"correlated effects of the inner factor {inner.name}")
    names = ", ".join(factor.name for factor in factors)
    raise _inexpressible(f"the grouping factors {names}, not two nested ones")


def _inexpressible(what: str) -> CourseError:
    return course_error(
        "fit",
        "must be a model that statsmodels' mixedlm can express",
        what,
        "Stay with this result: mixedlm takes one grouping factor, or a second one nested in "
        "it with uncorrelated effects, as in (1 | a/b).",
    )


def _components(cov: np.ndarray, outer: GroupFactor, inner: GroupFactor):
    """Variance components of the inner factor: one design matrix per outer group and term."""
    from statsmodels.regression.mixed_linear_model import VCSpec

    # statsmodels sorts the groups by their labels
    order = np.argsort(np.array([str(level) for level in outer.levels]), kind="stable")
    rows_of = [np.flatnonzero(outer.codes == j) for j in order]
    names = [f"{inner.name} {term}" for term in inner.terms]
    matrices, columns = [], []
    for k in range(len(inner.terms)):
        in_groups, labels = [], []
        for rows in rows_of:
            levels, codes = np.unique(inner.codes[rows], return_inverse=True)
            indicator = np.eye(len(levels))[codes]
            in_groups.append(indicator * inner.columns[rows, k : k + 1])
            labels.append([str(inner.levels[level]) for level in levels])
        matrices.append(in_groups)
        columns.append(labels)
    return VCSpec(names, columns, matrices), cov.diagonal()
