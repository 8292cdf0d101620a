"""Every public function, given strange values: a result or a CourseError, inputs unchanged."""

import copy
import inspect
import random
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import course_lib
from course_lib import (
    LmerResult,
    datasets,
    diagnostics,
    explain,
    lmer,
    panel,
    plots,
    reshape,
    simulate,
)
from course_lib.errors import CourseError
from course_lib.simulate import GrowthDesign, RandomSlopeDesign

pytestmark = pytest.mark.thorough

RNG = np.random.default_rng(5)
DATA = pd.DataFrame({"g": np.repeat(np.arange(6), 6), "t": np.tile(np.arange(6), 6)})
DATA["x"], DATA["k"] = RNG.normal(size=36), RNG.choice(["a", "b"], 36)
DATA["y"] = DATA["x"] + 0.3 * DATA["t"] + RNG.normal(size=6)[DATA["g"]] + RNG.normal(size=36)
FIT, OTHER = lmer("y ~ x + (1 | g)", DATA), lmer("y ~ x + (t | g)", DATA.iloc[:30])
FULL = lmer("y ~ x + t + (1 | g)", DATA)
SLOPES = lmer("y ~ t + (t | g)", DATA)
PANEL = panel.compare_fe_re("y ~ x", DATA, entity="g", time="t")
IMAGES, LABELS = RNG.random((12, 8, 8)), np.arange(12) % 3
SHORT = {"n_filters": (2, 3), "n_hidden": 4, "n_epochs": 1}
NET = explain.train_net(IMAGES, LABELS, n_classes=3, rng=np.random.default_rng(1), **SHORT)
WIDE = pd.DataFrame({"id": [1, 2, 3], "s1": [1.0, 2.0, 3.0], "s2": [2.0, 3.0, 5.0]})
LONG = reshape.to_long(WIDE, "s", id="id")
SCORES = datasets.load("school_growth")
RECORDS = [{"user": "U1", "orders": [{"id": 7, "price": 2.5}, {"id": 8, "price": 1.0}]}]
CURVES = pd.DataFrame(
    {"observed": [0.0, 1.0, 2.0], "median": 0.5, "lower_all": -1.0, "upper_all": 1.0}
)
TABLE = FIT.fixed_table().rename(columns=str)
EFFECTS = pd.DataFrame({"t": [0, 1, 2] * 2, "arm": list("aaabbb"), "estimate": np.arange(6.0)})
EFFECTS = EFFECTS.assign(lower=EFFECTS.estimate - 1, upper=EFFECTS.estimate + 1)
GAP = pd.DataFrame({"term": ["x"], "fe": 1.0, "fe_se": 0.2, "re": 1.3, "re_se": 0.1})
PANEL_DESIGN = simulate.RandomSlopeDesign(n_groups=4, n_per_group=5)
PANELS = simulate.simulate_panels(PANEL_DESIGN, 2, np.random.default_rng(2))
COEF, MODES = SLOPES.coef()["g"], SLOPES.random_effects["g"]


def new_ax():
    return plt.figure().add_subplot()


def new_axes():
    return plt.figure().subplots(1, 2)


def modes(fit):
    return fit.random_effects["g"]["Intercept"].to_numpy()


def generator():
    return np.random.default_rng(3)


# A valid call of each; what is called without arguments is made anew for each call.
CALLS = {
    "lmer": {"formula": "y ~ x + (1 | g)", "data": DATA},
    "lr_test": {"reduced": FIT, "full": FULL, "progress": False},
    "fit_ar1": {"fit": SLOPES, "time": DATA["t"]},
    "lr_test bootstrap": {
        "reduced": FIT,
        "full": FULL,
        "method": "bootstrap",
        "n_sim": 5,
        "rng": generator,
        "progress": False,
    },
    "compare_models": {"models": {"a": FIT, "b": FULL}},
    "exact_rlrt": {"fit": FIT, "n_sim": 50, "rng": generator},
    "describe": {"name": "sleepstudy"},
    "load": {"name": "sleepstudy"},
    "codebook": {"name": "sleepstudy"},
    "names": {},
    "coef": {"self": FIT},
    "conf_int": {"self": FIT, "method": "wald"},
    "conf_int bootstrap": {
        "self": FIT,
        "method": "bootstrap",
        "n_sim": 20,
        "rng": generator,
        "progress": False,
    },
    "correlation": {"self": SLOPES, "group": "g", "a": "Intercept", "b": "t"},
    "fixed_table": {"self": FIT},
    "predict": {"self": FIT, "newdata": DATA.head(5)},
    "refit": {"self": FIT, "y": DATA["y"]},
    "refit_many": {"self": FIT, "responses": DATA["y"].to_numpy()[None], "progress": False},
    "refits": {"self": FIT, "responses": DATA["y"].to_numpy()[None]},
    "sd": {"self": FIT, "group": "g"},
    "simulate": {"self": FIT, "n": 2, "rng": generator},
    "summary": {"self": FIT},
    "varcorr": {"self": FIT},
    "caterpillar": {"table": TABLE, "ax": new_ax},
    "covariance_ellipse": {"cov": SLOPES.cov_re["g"], "ax": new_ax, "x": "Intercept", "y": "t"},
    "envelope_plot": {"band": CURVES, "ax": new_ax},
    "interval_plot": {"data": EFFECTS, "name": "t", "ax": new_ax, "by": "arm"},
    "level_slopes": {
        "data": DATA,
        "x": "x",
        "y": "y",
        "group": "g",
        "params": {"Intercept": 1.0, "x_within": 1.0, "x_between": 2.0},
        "ax": new_ax,
    },
    "gap_plot": {"table": GAP, "term": "x", "axes": new_axes},
    "label_plot": {"data": DATA, "outer": "g", "inner": "k", "ax": new_ax},
    "memory_plot": {"residuals": FIT.resid, "groups": DATA["g"], "ax": new_ax},
    "related_plot": {"x": DATA["x"], "groups": DATA["g"], "effects": MODES["t"], "ax": new_ax},
    "spread_plot": {"x": DATA["x"], "y": FIT.resid, "ax": new_ax, "within": DATA["g"]},
    "trend_plot": {"x": DATA["x"], "y": FIT.resid, "ax": new_ax, "within": DATA["g"]},
    "within_between_plot": {
        "data": DATA,
        "x": "x",
        "y": "y",
        "group": "g",
        "ax": new_ax,
        "slopes": {"within": 1.0, "between": 2.0, "pooled": 1.5},
    },
    "own_lines": {"data": DATA, "y": "y", "x": "t", "group": "g"},
    "own_slopes": {"data": DATA, "y": "y", "x": "t", "group": "g"},
    "fit_panels": {"x": PANELS[0], "y": PANELS[1]},
    "simulate_fault": {"fault": "curve", "rng": generator, "n_groups": 3, "n_per_group": 4},
    "simulate_panels": {"design": PANEL_DESIGN, "n_panels": 2, "rng": generator},
    "missingness_map": {"data": DATA, "levels": "g", "ax": new_ax},
    "shrinkage_plot": {
        "own": COEF,
        "pooled": COEF,
        "common": SLOPES.fe_params,
        "x": "t",
        "ax": new_ax,
    },
    "qq_plot": {"data": DATA, "column": "y", "ax": new_ax},
    "residual_plot": {
        "data": DATA,
        "fitted": "x",
        "resid": "y",
        "ax": new_ax,
    },
    "small_multiples": {"data": DATA, "x": "t", "y": "y", "group": "g"},
    "spaghetti": {"data": DATA, "x": "t", "y": "y", "group": "g", "ax": new_ax},
    "all_optimizers": {"formula": "y ~ x + (1 | g)", "data": DATA},
    "binned_means": {"fit": FIT},
    "binned_spreads": {"fit": FIT},
    "check_convergence": {"fit": FIT},
    "check_up": {"fit": FIT, "questions": {"a": modes}, "n_sim": 20, "rng": generator},
    "group_slope_spread": {"fit": FIT},
    "icc": {"fit": FIT},
    "influence": {"fit": FIT},
    "r2": {"fit": FIT},
    "random_effects_frame": {"fit": FIT},
    "random_effects_pca": {"fit": SLOPES},
    "residual_frame": {"fit": FIT},
    "simulated_envelope": {"fit": FIT, "statistic": modes, "n_sim": 20, "rng": generator},
    "sorted_modes": {"fit": FIT},
    "sorted_residuals": {"fit": FIT},
    "variance_parts": {"fit": FIT},
    "train_net": {
        "images": IMAGES,
        "labels": LABELS,
        "n_classes": 3,
        "rng": generator,
        **SHORT,
    },
    "class_scores": {"net": NET, "maps": explain.feature_maps(NET, IMAGES)},
    "feature_maps": {"net": NET, "images": IMAGES},
    "grad_cam": {"net": NET, "image": IMAGES[0], "target": 1},
    "erase_squares": {"images": IMAGES, "places": np.ones((12, 2), dtype=int), "side": 2},
    "predict_proba": {"net": NET, "images": IMAGES},
    "pathway_enrichment": {
        "scores": np.arange(4.0),
        "pathways": list("aabb"),
        "n": 9,
        "rng": generator,
    },
    "hash_inputs": {"inputs": {"a": 1, "b": "x"}},
    "counterfactual": {
        "predict": FIT,
        "row": DATA.iloc[0],
        "data": DATA,
        "target": 1.0,
        "change": ["x"],
    },
    "linear_shap": {"fit": FIT, "data": DATA.head(4), "background": DATA},
    "local_surrogate": {
        "predict": FULL,
        "row": DATA.iloc[0],
        "data": DATA,
        "n_samples": 40,
        "n_repeats": 2,
        "rng": generator,
    },
    "partial_dependence_frame": {"predict": FIT, "data": DATA, "features": "x"},
    "compare_fe_re": {"formula": "y ~ x", "data": DATA, "entity": "g", "time": "t"},
    "hausman": {"fe": PANEL.fe, "re": PANEL.re},
    "encode_levels": {"data": DATA, "levels": ["k", "g"]},
    "flatten_nested": {"records": RECORDS, "path": ["orders"], "keys": ["user", "id"]},
    "to_long": {"data": WIDE, "stubs": "s", "id": "id"},
    "table_report": {"data": DATA, "key": "g", "parents": {"g": "g"}, "value": "y"},
    "to_wide": {"data": LONG, "values": "s", "id": "id"},
    "variance_by_level": {"data": DATA, "columns": ["x"], "by": "g"},
    "within_between": {"data": DATA, "columns": ["x"], "by": "g"},
    "simulate_growth": {"design": GrowthDesign(), "rng": generator},
    "spoil_scores": {"growth": SCORES, "rng": generator},
    "rainfall_response": {"latitude": 1.0, "longitude": 2.0, "month": 3},
    "simulate_genes": {"n": 4, "effects": (1, 0), "rng": generator},
    "simulate_rainfall": {"n": 4, "rng": generator},
    "simulate_scans": {"n": 4, "cue": "grain", "rng": generator},
    "simulate_orders": {"n_users": 4, "rng": generator},
    "simulate_random_slopes": {"design": RandomSlopeDesign(), "rng": generator},
}
DOORS = [course_lib, plots, diagnostics, explain, panel, reshape, simulate, datasets]
FUNCTIONS = {
    name: getattr(door, name)
    for door in DOORS
    for name in door.__all__
    if inspect.isfunction(getattr(door, name))
}
METHODS = {
    name: method
    for name, method in inspect.getmembers(LmerResult, inspect.isfunction)
    if not name.startswith("_")
}
TRIED = METHODS | FUNCTIONS

VALUES = {
    "None": None,
    "NaN": np.nan,
    "inf": np.inf,
    "-1": -1,
    "0": 0,
    "1": 1,
    "2.5": 2.5,
    "True": True,
    "numpy bool": np.bool_(True),
    "numpy int": np.int64(2),
    "huge": 10**30,
    "complex": 1j,
    "empty text": "",
    "nope": "nope",
    "a column": "x",
    "formula": "y ~ t + (1 | k)",
    "bytes": b"x",
    "[]": [],
    "[None]": [None],
    "[[]]": [[]],
    "names": ["x", "t"],
    "twice": ["x", "x"],
    "numbers": [1.0, np.nan],
    "tuple": ("x",),
    "pair": (0.0, 1.0),
    "range": range(3),
    "set": {"x"},
    "{}": {},
    "dict": {"x": 1},
    "dict of lists": {"x": [1, 2]},
    "array": np.zeros((2, 3)),
    "no array": np.array(["a", None], dtype=object),
    "scalar array": np.array(3),
    "Index": pd.Index(["x"]),
    "empty frame": pd.DataFrame(),
    "frame": pd.DataFrame({"x": [1.0, 2.0], "y": ["a", "b"]}),
    "Series": pd.Series([1.0, 2.0]),
    "NA": pd.NA,
    "NaT": pd.NaT,
    "Timestamp": pd.Timestamp("2020"),
    "Path": Path("nope"),
    "lambda": lambda rows: rows,
    "object": object(),
    "generator": (name for name in "x"),
    "fit": OTHER,
}


def frames_like(frame):
    """Make of a valid frame what may come in its place."""
    columns = list(frame.columns)
    last = columns[-1]
    n = len(frame)
    objects = pd.Series([[1]] * n, frame.index, dtype=object)
    made = {
        "no rows": frame.iloc[:0],
        "no columns": frame[[]],
        "one row": frame.iloc[:1],
        "two rows": frame.iloc[:2],
        "rows repeated": pd.concat([frame, frame]),
        "index repeated": frame.set_axis(np.zeros(n, dtype=int)),
        "MultiIndex rows": frame.set_axis(pd.MultiIndex.from_product([[0], range(n)])),
        "MultiIndex columns": frame.set_axis(
            pd.MultiIndex.from_tuples([(c, 1) for c in columns]), axis=1
        ),
        "columns twice": pd.concat([frame, frame], axis=1),
        "numbers as names": frame.rename(columns={last: 3}),
        "one column less": frame[columns[:-1]],
        "group in index": frame.set_index(columns[0]),
        "shuffled": frame.sample(frac=1, random_state=1),
        "Series": frame[last],
        "dict": frame.to_dict("list"),
        "array": frame.to_numpy(),
    }
    kinds = {
        "text": frame[last].astype(str),
        "string": frame[last].astype(str).astype("string"),
        "complex": pd.Series(np.arange(n) + 1j, frame.index),
        "gaps": frame[last].astype(object).where(np.arange(n) > 0),
        "all missing": pd.Series(np.nan, frame.index),
        "constant": pd.Series(1, frame.index),
        "infinite": pd.Series(np.inf, frame.index),
        "huge": pd.Series(1e300 * (1 + np.arange(n)), frame.index),
        "lists": objects,
        "mixed": pd.Series(([1, "a", None, 2.5, (1,)] * n)[:n], frame.index, dtype=object),
        "nullable": pd.Series(pd.array([pd.NA, *[1] * (n - 1)], "Int64"), frame.index),
        "boolean": pd.Series(pd.array(np.arange(n) % 2 == 0, "boolean"), frame.index),
        "category": pd.Series(pd.Categorical(np.arange(n) % 2, [0, 1, 2]), frame.index),
        "dates": pd.Series(pd.date_range("2020", periods=n, tz="UTC"), frame.index),
        "durations": pd.Series(pd.to_timedelta(np.arange(n), "h"), frame.index),
        "sparse": pd.Series(pd.arrays.SparseArray(np.arange(n) % 2), frame.index),
    }
    for kind, values in kinds.items():
        for column in columns:
            made[f"{column}: {kind}"] = frame.assign(**{column: values})
    return made


def strange(valid):
    """Return what an argument becomes, by name."""
    made = dict(VALUES)
    if isinstance(valid, pd.DataFrame):
        made |= frames_like(valid)
    if isinstance(valid, pd.Series):
        made |= {
            "cut": valid.iloc[:-1],
            "texts": valid.astype(str),
            "missing": valid.where(valid.index != valid.index[0]),
            "renamed": valid.set_axis([f"c{k}" for k in range(len(valid))]),
            "frame of it": valid.to_frame(),
            "list": valid.tolist(),
        }
    if isinstance(valid, np.ndarray):
        made |= {
            "cut": valid[:-1],
            "deeper": valid[None],
            "texts": valid.astype(str),
            "NaN": valid * np.nan,
            "complex": valid + 1j,
            "list": valid.tolist(),
            "huge": valid * 1e300,
        }
    return made


def function_of(name):
    return TRIED[name.split()[0]]


def same(before, after):
    """Whether an argument is as it was: frames, series, arrays, and plain containers."""
    if isinstance(before, pd.DataFrame | pd.Series):
        return before.equals(after) and before.index.identical(after.index)
    if isinstance(before, np.ndarray):
        return before.dtype == after.dtype and before.tobytes() == after.tobytes()
    if isinstance(before, LmerResult):
        return before.deviance == after.deviance and before.fe_params.equals(after.fe_params)
    return not isinstance(before, list | dict | str) or repr(before) == repr(after)


def call(name, change, what):
    """Call with some arguments changed; raise AssertionError if that breaks the rule."""
    made_anew = (new_ax, generator)
    given = {k: v() if any(v is f for f in made_anew) else v for k, v in CALLS[name].items()}
    given |= change
    frames = pd.DataFrame | pd.Series | np.ndarray | list | dict
    before = {k: copy.deepcopy(v) if isinstance(v, frames) else v for k, v in given.items()}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            result = function_of(name)(**given)
            repr(result)
        except CourseError:
            result = None
        except Exception as error:
            where = [
                f
                for f in inspect.getinnerframes(error.__traceback__)
                if "course_lib" in f.filename
            ]
            place = f"{Path(where[-1].filename).name}:{where[-1].lineno}" if where else ""
            raise AssertionError(
                f"{name}({what}): {type(error).__name__}: {error!s:.150} {place}"
            ) from error
        finally:
            plt.close("all")
    changed = [k for k in before if not same(before[k], given[k])]
    assert not changed, f"{name}({what}): changed {changed}"
    numbers = np.asarray(result) if isinstance(result, np.ndarray | float) else np.zeros(1)
    if isinstance(result, pd.DataFrame | pd.Series):
        numbers = pd.DataFrame(result).select_dtypes("float").to_numpy()
    if numbers.dtype.kind == "f" and "huge" not in what and "inf" not in what:
        assert not np.isinf(numbers).any(), f"{name}({what}): infinite numbers"


def tried(name, changes):
    failed = []
    for change, what in changes:
        try:
            call(name, change, what)
        except AssertionError as error:
            failed.append(str(error))
    assert not failed, "\n".join(failed)


def arguments_of(name):
    return [n for n in inspect.signature(function_of(name)).parameters if n != "self"]


def test_every_public_function_is_tried():
    assert {name.split()[0] for name in CALLS} == set(TRIED)


@pytest.mark.parametrize("name", CALLS)
def test_valid_calls(name):
    call(name, {}, "")


@pytest.mark.parametrize("name", CALLS)
def test_one_strange_argument(name):
    tried(
        name,
        (
            ({argument: value}, f"{argument}={label}")
            for argument in arguments_of(name)
            for label, value in strange(CALLS[name].get(argument)).items()
        ),
    )


@pytest.mark.parametrize("name", [name for name in CALLS if len(arguments_of(name)) > 1])
def test_two_strange_arguments(name):
    rng = random.Random(name)
    changes = []
    for _ in range(150):
        change, what = {}, []
        for argument in rng.sample(arguments_of(name), 2):
            label, value = rng.choice(list(strange(CALLS[name].get(argument)).items()))
            change[argument] = value
            what.append(f"{argument}={label}")
        changes.append((change, ", ".join(what)))
    tried(name, changes)
