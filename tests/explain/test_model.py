"""What a model is to the explanation tools: the columns that it takes, and no others."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from course_lib.explain import counterfactual, local_surrogate
from course_lib.explain.model import columns_of, one_row
from course_lib.mixed.result import lmer


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"team": np.repeat(np.arange(12), 8), "x": rng.normal(size=96)})
    frame["z"], frame["other"] = rng.normal(size=96), rng.normal(size=96)
    frame["y"] = 1 + 0.5 * frame.x + rng.normal(size=12)[frame.team] + rng.normal(size=96)
    return frame


@pytest.mark.parametrize(
    ("formula", "used", "predictors"),
    [
        ("y ~ x + (1 | team)", ["team", "x"], ["x"]),
        ("y ~ log(x + 9) + (z | team)", ["team", "x", "z"], ["x", "z"]),
        ("y ~ team + (1 | team)", ["team"], ["team"]),
    ],
)
def test_columns_of_a_mixed_model(data, formula, used, predictors):
    assert columns_of(lmer(formula, data), data) == (used, predictors)


def test_columns_of_other_models(data):
    model = LinearRegression().fit(data[["z", "x"]], data["y"])
    assert columns_of(model, data) == (["x", "z"], ["x", "z"])
    assert columns_of(lambda rows: rows["x"], data) == (list(data), list(data))


USELESS = {
    "missing": np.nan,
    "duration": pd.Timedelta("1D"),
    "date": pd.Timestamp("2020-01-01"),
    "list": [[1, 2]] * 96,
}


@pytest.mark.parametrize("kind", USELESS)
def test_a_column_that_the_model_does_not_use_is_not_looked_at(data, kind):
    fit = lmer("y ~ x + z + (1 | team)", data)
    table = data.assign(note=USELESS[kind])
    changed = counterfactual(fit, table.iloc[3], table, 2.0, change=["x"])
    assert changed.prediction == pytest.approx(fit.fittedvalues[3])
    around = local_surrogate(fit, table.iloc[3], table, rng=np.random.default_rng(1))
    assert list(around.effects["feature"]) == ["x", "z"]  # and the team is not moved
    assert around.prediction == pytest.approx(fit.fittedvalues[3])


def test_a_whole_number_may_be_changed_to_a_half():
    data = pd.DataFrame({"count": [1, 2], "name": ["a", "b"], "x": [0.5, 1.5]})
    row = data.iloc[1].copy()
    row["count"] = 2.5
    changed = one_row(row, data)
    assert changed.to_dict("list") == {"count": [2.5], "name": ["b"], "x": [1.5]}
    assert changed["name"].dtype == data["name"].dtype
