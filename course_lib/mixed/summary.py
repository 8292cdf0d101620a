"""Text and HTML display of a fit. Rounding happens here and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from course_lib.mixed.result import LmerResult

__all__ = ["html_summary", "text_summary"]


def _header(fit: LmerResult) -> list[str]:
    criterion = "REML criterion" if fit.reml else "ML deviance (-2 log-likelihood)"
    groups = ", ".join(f"{name}: {n}" for name, n in fit.ngroups.items())
    dropped = f" ({fit.n_dropped} left out: missing values)" if fit.n_dropped else ""
    lines = [
        f"Linear mixed model fitted by {'REML' if fit.reml else 'maximum likelihood'}",
        f"Formula: {fit.formula}",
        f"{criterion}: {fit.deviance:.3f}   AIC: {fit.aic:.3f}   BIC: {fit.bic:.3f}   "
        f"parameters: {fit.npar}",
        f"Rows: {fit.nobs}{dropped}   Groups: {groups}",
    ]
    if fit.is_singular:
        lines.append("Singular fit: a variance is estimated as 0 or a correlation as ±1.")
    if not fit.converged:
        lines.append("NOT CONVERGED: the gradient did not vanish; do not trust this fit.")
    return lines


def _random_table(fit: LmerResult) -> pd.DataFrame:
    """Variance and sd, one row a term, with correlations with the terms above it."""
    spread = fit.varcorr()
    single = spread[spread["term2"] == ""]
    table = pd.DataFrame(
        {
            "group": single["group"].mask(single["group"].duplicated(), ""),
            "term": single["term1"],
            "variance": single["vcov"].map("{:.5g}".format),
            "sd": single["sdcor"].map("{:.5g}".format),
        }
    )
    pairs = spread[spread["term2"] != ""]
    if len(pairs):
        correlations = [
            " ".join(
                f"{cor:.2f}"
                for cor in pairs.loc[
                    (pairs["group"] == row.group) & (pairs["term2"] == row.term1), "sdcor"
                ]
            )
            for row in single.itertuples()
        ]
        table["correlation"] = correlations
    return table


def _fixed_table(fit: LmerResult) -> pd.DataFrame:
    table = fit.fixed_table()
    formats = {"estimate": 5, "std_error": 4, "df": 4, "t": 4, "p": 3, "lower": 5, "upper": 5}
    return pd.DataFrame(
        {name: table[name].map(f"{{:.{digits}g}}".format) for name, digits in formats.items()}
    )


def _fixed_correlation(fit: LmerResult) -> pd.DataFrame:
    errors = fit.bse_fe.to_numpy()
    correlation = fit.cov_fe / np.outer(errors, errors)
    shown = correlation.map("{:.3f}".format)
    lower = np.tril(np.ones(shown.shape, dtype=bool), -1)
    return shown.where(lower, "").iloc[1:, :-1]


def _parts(fit: LmerResult) -> list[tuple[str, pd.DataFrame, bool]]:
    parts = [
        ("Random effects", _random_table(fit), False),
        ("Fixed effects (Satterthwaite df, 95 % interval)", _fixed_table(fit), True),
    ]
    if 1 < len(fit.fe_params) <= 8:
        parts.append(("Correlation of fixed effects", _fixed_correlation(fit), True))
    return parts


def text_summary(fit: LmerResult) -> str:
    """Return the fit as text: header, random effects, fixed effects.

    Parameters
    ----------
    fit : LmerResult
        The fit.

    Returns
    -------
    str
    """
    blocks = ["\n".join(_header(fit))]
    for title, table, index in _parts(fit):
        blocks.append(f"{title}:\n{table.to_string(index=index)}")
    return "\n\n".join(blocks)


def html_summary(fit: LmerResult) -> str:
    """Return the fit as HTML for a notebook; see `text_summary`."""
    first, *rest = _header(fit)
    escaped = "<br>".join(line.replace("&", "&amp;").replace("<", "&lt;") for line in rest)
    blocks = [f"<p><strong>{first}</strong><br>{escaped}</p>"]
    for title, table, index in _parts(fit):
        blocks.append(f"<p><em>{title}</em></p>{table.to_html(index=index, border=0)}")
    return "<div>" + "".join(blocks) + "</div>"
