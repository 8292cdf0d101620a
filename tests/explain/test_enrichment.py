import itertools

import numpy as np
import pytest
from scipy import stats

from course_lib.errors import CourseError
from course_lib.explain.enrichment import pathway_enrichment

PATHWAYS = np.repeat(list("ABCDE"), [4, 6, 10, 10, 10])


def test_p_is_that_of_all_sets_counted():
    scores, pathways = [5.0, 4, 1, 0, 3, 2], list("AABBBB")
    means = [np.mean(pair) for pair in itertools.combinations(scores, 2)]
    exact = np.mean([mean >= 4.5 for mean in means])  # 1 of 15
    table = pathway_enrichment(scores, pathways, 20_000, np.random.default_rng(1))
    assert table.loc["A", "p"] == pytest.approx(exact, abs=4 * np.sqrt(exact / 20_000))
    assert table["genes"].to_dict() == {"A": 2, "B": 4}
    assert table.loc["B", "mean_score"] == 1.5
    assert table.loc["A", "random_mean"] == pytest.approx(2.5, abs=0.05)


def test_p_is_uniform_where_genes_are_independent():
    rng = np.random.default_rng(2)
    p = [
        pathway_enrichment(rng.exponential(size=40), PATHWAYS, 199, rng)["p"]
        for _ in range(300)
    ]
    for name, values in zip("ABCDE", np.transpose(p), strict=True):
        assert stats.kstest(values, "uniform").pvalue > 0.001, name


def test_p_is_too_small_where_the_genes_of_a_pathway_move_together():
    rng = np.random.default_rng(3)
    shared = rng.standard_normal((200, 5))[:, np.repeat(np.arange(5), [4, 6, 10, 10, 10])]
    scores = np.abs(shared + 0.3 * rng.standard_normal((200, 40)))
    p = [pathway_enrichment(one, PATHWAYS, 199, rng)["p"] for one in scores]
    assert (np.array(p) <= 0.05).mean() > 0.15


def test_a_planted_pathway_is_found_and_order_does_not_matter():
    rng = np.random.default_rng(4)
    scores = rng.exponential(size=40) + 2 * (PATHWAYS == "C")
    order = rng.permutation(40)
    for s, names in ((scores, PATHWAYS), (scores[order], PATHWAYS[order])):
        table = pathway_enrichment(s, list(names), 999, rng)
        assert table["p"].idxmin() == "C"
        assert table.loc["C", "p"] <= 0.005
        assert table.loc["C", "mean_score"] == pytest.approx(scores[PATHWAYS == "C"].mean())


def test_equal_scores_say_nothing():
    table = pathway_enrichment(np.full(40, 0.1), PATHWAYS, 99, np.random.default_rng(5))
    assert (table["p"] == 1).all()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"scores": [1.0, 2.0]}, "pathways: must name one pathway per score"),
        ({"scores": np.full(40, np.nan)}, "scores: must be finite"),
        ({"scores": np.ones((20, 2))}, "pathways: must name one"),
        ({"pathways": ["A"] * 40}, "pathways: must be at least two"),
        ({"pathways": "ABC"}, "pathways: must be a list"),
        ({"n": 0}, "n: must be a whole number"),
        ({"rng": 1}, "rng: must be a numpy.random.Generator"),
    ],
)
def test_bad_input(change, match):
    good = {"scores": np.arange(40.0), "pathways": PATHWAYS, "n": 9}
    good |= {"rng": np.random.default_rng(1)}
    with pytest.raises(CourseError, match=match):
        pathway_enrichment(**(good | change))
