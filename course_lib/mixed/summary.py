"""Text and HTML display of a fit. Rounding happens here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

__all__ = ["Facts", "html_summary", "text_summary"]


@dataclass(frozen=True)
class Facts:
    """What the display of a fit shows; the names are those of `LmerResult`."""

    formula: str
    reml: bool
    deviance: float
    aic: float
    bic: float
    npar: int
    nobs: int
    n_dropped: int
    ngroups: dict[str, int]
    is_singular: bool
    converged: bool
    varcorr: pd.DataFrame
    fixed_table: pd.DataFrame
    cov_fe: pd.DataFrame


def _header(facts: Facts) -> list[str]:
    criterion = "REML criterion" if facts.reml else "ML deviance (-2 log-likelihood)"
    groups = ", ".join(f"{name}: {n}" for name, n in facts.ngroups.items())
    dropped = f" ({facts.n_dropped} left out: missing values)" if facts.n_dropped else ""
    lines = [
        f"Linear mixed model fitted by {'REML' if facts.reml else 'maximum likelihood'}",
        f"Formula: {facts.formula}",
        f"{criterion}: {facts.deviance:.3f}   AIC: {facts.aic:.3f}   BIC: {facts.bic:.3f}   "
        f"parameters: {facts.npar}",
        f"Rows: {facts.nobs}{dropped}   Groups: {groups}",
    ]
    if facts.is_singular:
        lines.append("Singular fit: a variance is estimated as 0 or a correlation as ±1.")
    if not facts.converged:
        lines.append("NOT CONVERGED: the gradient did not vanish; do not trust this fit.")
    return lines


def _random_table(spread: pd.DataFrame) -> pd.DataFrame:
    """Variance and sd, one row per term, with correlations with the terms above it."""
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


def _fixed_table(table: pd.DataFrame) -> pd.DataFrame:
    formats = {"estimate": 5, "std_error": 4, "df": 4, "t": 4, "p": 3, "lower": 5, "upper": 5}
    return pd.DataFrame(
        {name: table[name].map(f"{{:.{digits}g}}".format) for name, digits in formats.items()}
    )


def _correlation(cov_fe: pd.DataFrame) -> pd.DataFrame:
    errors = np.sqrt(np.diag(cov_fe))
    correlation = cov_fe / np.outer(errors, errors)
    shown = correlation.map("{:.3f}".format)
    lower = np.tril(np.ones(shown.shape, dtype=bool), -1)
    return shown.where(lower, "").iloc[1:, :-1]


def _parts(facts: Facts) -> list[tuple[str, pd.DataFrame, bool]]:
    parts = [
        ("Random effects", _random_table(facts.varcorr), False),
        (
            "Fixed effects (Satterthwaite df, 95 % interval)",
            _fixed_table(facts.fixed_table),
            True,
        ),
    ]
    if 1 < len(facts.cov_fe) <= 8:
        parts.append(("Correlation of fixed effects", _correlation(facts.cov_fe), True))
    return parts


def text_summary(facts: Facts) -> str:
    """Return a fit as text: header, random effects, fixed effects.

    Parameters
    ----------
    facts : Facts
        What to show.

    Returns
    -------
    str

    See Also
    --------
    html_summary : The same for a notebook.
    """
    blocks = ["\n".join(_header(facts))]
    for title, table, index in _parts(facts):
        blocks.append(f"{title}:\n{table.to_string(index=index)}")
    return "\n\n".join(blocks)


def html_summary(facts: Facts) -> str:
    """Return a fit as HTML for a notebook; see `text_summary`."""
    first, *rest = _header(facts)
    escaped = "<br>".join(line.replace("&", "&amp;").replace("<", "&lt;") for line in rest)
    blocks = [f"<p><strong>{first}</strong><br>{escaped}</p>"]
    for title, table, index in _parts(facts):
        blocks.append(f"<p><em>{title}</em></p>{table.to_html(index=index, border=0)}")
    return "<div>" + "".join(blocks) + "</div>"
