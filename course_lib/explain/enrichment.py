"""Do the genes that matter to a model gather in pathways? A test, with its null."""

from __future__ import annotations

import numpy as np
import pandas as pd

from course_lib.errors import check_count, check_finite, check_list, check_rng, course_error

__all__ = ["pathway_enrichment"]


def pathway_enrichment(
    scores: np.ndarray, pathways: list[str], n: int, rng: np.random.Generator
) -> pd.DataFrame:
    r"""Compare each pathway's mean score with that of random sets of as many genes.

    .. math:: p = \frac{1 + \#\{\text{random sets with a mean at least as large}\}}{1 + n}

    The null is that the pathway's genes are a random draw from all genes. It takes genes for
    independent: where the genes of a pathway rise and fall together, so do their scores by
    chance, and small p values are far too frequent (Goeman & Bühlmann 2007,
    doi:10.1093/bioinformatics/btm051).

    Parameters
    ----------
    scores : array_like, shape (genes,)
        How much each gene matters, such as its mean absolute SHAP value.
    pathways : sequence of str, length genes
        The pathway of each gene.
    n : int
        Number of random sets.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    DataFrame
        By pathway: genes (their number), mean_score, random_mean (of the random sets), p. One
        test per pathway: compare p with 0.05 divided by the number of pathways.

    Raises
    ------
    CourseError
        If the lengths differ, a score is not finite, there is only one pathway, n is no count
        or `rng` no generator.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> table = pathway_enrichment([5, 4, 1, 1, 0, 1, 2, 1], list("AABBCCDD"), 99, rng)
    >>> table["p"].idxmin()
    'A'

    See Also
    --------
    course_lib.simulate.simulate_genes : Genes in pathways, with known truth.
    """
    scores = check_finite("scores", scores)
    pathways = np.array(check_list("pathways", pathways))
    if scores.ndim != 1 or scores.shape != pathways.shape:
        got = f"{scores.shape} and {pathways.shape}"
        raise course_error(
            "pathways", "must name one pathway per score", got, "See the example."
        )
    names, sizes = np.unique(pathways, return_counts=True)
    if len(names) < 2:
        advice = "With one there is nothing to compare it with."
        raise course_error("pathways", "must be at least two", len(names), advice)
    check_count("n", n)
    check_rng("rng", rng)
    sums = np.cumsum([rng.permutation(scores) for _ in range(n)], axis=1)
    rows = []
    for name, size in zip(names, sizes, strict=True):
        mean, drawn = scores[pathways == name].mean(), sums[:, size - 1] / size
        as_large = drawn >= mean - 1e-12 * np.abs(scores).max()
        rows.append((size, mean, drawn.mean(), (1 + as_large.sum()) / (1 + n)))
    columns = ["genes", "mean_score", "random_mean", "p"]
    return pd.DataFrame(rows, columns=columns, index=pd.Index(names, name="pathway"))
