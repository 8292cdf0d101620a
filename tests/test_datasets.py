import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from course_lib import datasets
from course_lib.errors import CourseError
from course_lib.simulate import GrowthDesign, simulate_growth, simulate_orders

REFERENCE = json.loads(
    (Path(__file__).parent / "reference" / "export_data.json").read_text(encoding="utf-8")
)
FROM_R = [name for name in REFERENCE if name != "head"]
FRAMES = [name for name in datasets.names() if name != "orders"]

FACTS = ["mean", "std", "min", "max"]

# R keeps 15 significant digits in the JSON, and sums in another order than pandas.
RELATIVE = 1e-13
# A mean that is zero up to rounding (ses, cses) has no relative accuracy; two columns of hsb82
# are rounded to 10 decimals in the file.
ABSOLUTE = 1e-10


@pytest.fixture
def data_copy(tmp_path, monkeypatch):
    """A data directory that a test may damage: the codebook and sleepstudy.csv."""
    for file in ("codebook.json", "sleepstudy.csv"):
        (tmp_path / file).write_bytes((datasets.DATA_DIRECTORY / file).read_bytes())
    monkeypatch.setattr(datasets, "DATA_DIRECTORY", tmp_path)
    return tmp_path


def test_every_set_of_the_course_is_there():
    assert set(datasets.names()) == set(FROM_R) | {"wage_panel", "school_growth", "orders"}
    assert len(FROM_R) == 9


@pytest.mark.parametrize("name", FRAMES)
def test_frame_is_what_its_codebook_says(name):
    frame, columns, info = datasets.load(name), datasets.describe(name), datasets.codebook(name)
    assert list(frame.columns) == columns["column"].tolist()
    assert len(frame) == info.n_rows
    for column, kind in zip(columns["column"], columns["type"], strict=True):
        is_number = pd.api.types.is_numeric_dtype(frame[column])
        assert is_number == (kind != "label"), column
        assert pd.api.types.is_integer_dtype(frame[column]) == (kind == "integer"), column
        if kind == "label":
            assert all(isinstance(value, str) and value for value in frame[column]), column
    assert frame.isna().to_numpy().any() == (name == "school_growth")


@pytest.mark.parametrize("name", FROM_R)
def test_columns_agree_with_r(name):
    frame, facts = datasets.load(name), REFERENCE[name]
    assert len(frame) == facts["n_rows"]
    assert list(frame.columns) == list(facts["columns"])
    for column, expected in facts["columns"].items():
        if "n_levels" in expected:
            found = {"n_levels": frame[column].nunique()}
        else:
            # firm, a label here, is a number in R.
            numbers = frame[column].astype(float)
            found = dict(zip(["mean", "sd", "min", "max"], numbers.agg(FACTS), strict=True))
        assert found == pytest.approx(expected, rel=RELATIVE, abs=ABSOLUTE), column


def test_published_facts():
    sleep = datasets.load("sleepstudy")
    assert sleep.shape == (180, 3)
    assert sleep["Reaction"].mean() == pytest.approx(298.5079, abs=5e-5)
    orthodont = datasets.load("orthodont")
    children = orthodont.groupby("Sex")["Subject"].nunique()
    assert children.to_dict() == {"Male": 16, "Female": 11}
    assert orthodont["Subject"].min() == "F01"
    assert orthodont["Subject"].max() == "M16"
    schools = datasets.load("hsb82").groupby("sector")["school"].nunique()
    assert schools.to_dict() == {"Catholic": 70, "Public": 90}


def test_wage_panel_is_the_one_of_linearmodels():
    from linearmodels.datasets import wage_panel

    wages = datasets.load("wage_panel")
    # The two labels are numbers there.
    found = wages.astype({"nr": "int64", "occupation": "int64"})
    pd.testing.assert_frame_equal(found, wage_panel.load(), check_exact=True)
    assert (wages.groupby("nr")["year"].nunique() == 8).all()
    assert wages["nr"].nunique() == 545
    assert (wages["expersq"] == wages["exper"] ** 2).all()


def test_nesting_and_crossing():
    pastes = datasets.load("pastes")
    assert pastes["cask"].nunique() == 3
    assert (pastes["sample"] == pastes["batch"] + ":" + pastes["cask"]).all()
    penicillin = datasets.load("penicillin")
    assert (pd.crosstab(penicillin["plate"], penicillin["sample"]) == 1).all(axis=None)
    growth = datasets.load("school_growth")
    assert growth[["class_number", "class_id", "student_id"]].nunique().tolist() == [4, 24, 240]


def test_derived_columns_of_hsb82():
    students = datasets.load("hsb82")
    mean = students.groupby("school")["ses"].transform("mean")
    # Rounded to 10 decimals in the file.
    np.testing.assert_allclose(students["meanses"], mean, atol=1e-10)
    np.testing.assert_allclose(students["cses"], students["ses"] - mean, atol=1e-10)


def test_simulated_growth_comes_from_its_seed_and_design():
    truth = datasets.codebook("school_growth").simulation
    made = simulate_growth(
        GrowthDesign(**truth["design"]), np.random.default_rng(truth["seed"])
    )
    stored = datasets.load("school_growth")
    pd.testing.assert_frame_equal(made.drop(columns="score"), stored.drop(columns="score"))
    assert stored["score"].isna().sum() == 36
    # The file has two decimals.
    np.testing.assert_allclose(made["score"], stored["score"], atol=0.005 + 1e-9)


def test_simulated_orders_come_from_their_seed():
    truth = datasets.codebook("orders").simulation
    made = simulate_orders(truth["n_users"], np.random.default_rng(truth["seed"]))
    stored = datasets.load("orders")
    assert [user["user"] for user in stored] == [user["user"] for user in made]
    for there, here in zip(stored, made, strict=True):
        assert [order["id"] for order in there["orders"]] == [
            order["id"] for order in here["orders"]
        ]
        for old, new in zip(there["orders"], here["orders"], strict=True):
            for item, again in zip(old["items"], new["items"], strict=True):
                # A last digit of exp() may turn the cent on another machine.
                assert again == {**item, "price": pytest.approx(item["price"], abs=0.0101)}


def test_orders_show_what_the_chapter_needs():
    orders = datasets.load("orders")
    assert len(orders) == datasets.codebook("orders").n_rows
    assert any(user["orders"] == [] for user in orders)
    first_ids = [user["orders"][0]["id"] for user in orders if user["orders"]]
    assert first_ids == [101] * len(first_ids)
    assert len(first_ids) > 1


def test_orders_follow_their_codebook():
    kinds = {"label": str, "integer": int, "number": float}
    fields = datasets.describe("orders").set_index("column")["type"].map(kinds)
    for user in datasets.load("orders"):
        assert isinstance(user["user"], fields["user"])
        for order in user["orders"]:
            assert isinstance(order["id"], fields["orders[].id"])
            for item in order["items"]:
                assert set(item) == {"name", "price", "quantity"}
                for key, value in item.items():
                    assert isinstance(value, fields[f"orders[].items[].{key}"])


def test_every_load_is_fresh():
    first = datasets.load("dyestuff")
    first["Yield"] = 0.0
    assert datasets.load("dyestuff")["Yield"].min() > 0
    datasets.load("orders").clear()
    assert len(datasets.load("orders")) == 10
    datasets.codebook("orders").simulation.clear()
    assert datasets.codebook("orders").simulation["seed"] == 7


@pytest.mark.parametrize("name", datasets.names())
def test_codebook_is_complete(name):
    info, columns = datasets.codebook(name), datasets.describe(name)
    assert list(columns.columns) == ["column", "meaning", "unit", "type"]
    assert (columns[["column", "meaning"]] != "").all(axis=None)
    assert columns["type"].isin(["label", "integer", "number"]).all()
    assert info.name == name
    for value in (info.title, info.row, info.source, info.licence):
        assert len(value) > 2
    assert re.fullmatch(r"(10\.\d{4,}/\S+)?", info.doi)


def test_readme_agrees_with_codebook_and_files():
    readme = (datasets.DATA_DIRECTORY / "README.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (\w+) \| ([\d,]+) \| (.+) \| `(\w{64})` \|$", readme, re.MULTILINE)
    # load() has compared each sha256 of the codebook with its file.
    expected = [datasets.codebook(name) for name in datasets.names()]
    assert table == [(e.name, f"{e.n_rows:,}", e.row, e.sha256) for e in expected]
    for info in expected:
        section = readme.split(f"\n## {info.name}\n")[1].split("\n## ")[0]
        assert info.source in section
        assert info.licence in section
        assert info.doi in section
        for row in datasets.describe(info.name).itertuples():
            assert f"| {row.column} | {row.meaning} | {row.unit} | {row.type} |" in section


def test_no_file_without_codebook():
    files = {path.name for path in datasets.DATA_DIRECTORY.glob("[!.]*")}
    known = {datasets.codebook(name).file for name in datasets.names()}
    assert files == known | {"codebook.json", "README.md"}


def test_changed_file_is_refused(data_copy):
    path = data_copy / "sleepstudy.csv"
    path.write_bytes(path.read_bytes().replace(b"249.56", b"249.57"))
    with pytest.raises(CourseError, match=r"git checkout -- data/sleepstudy\.csv"):
        datasets.load("sleepstudy")


def test_windows_line_ends_are_accepted(data_copy):
    expected = datasets.load("sleepstudy")
    path = data_copy / "sleepstudy.csv"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    pd.testing.assert_frame_equal(datasets.load("sleepstudy"), expected)


def test_missing_file(data_copy):
    (data_copy / "sleepstudy.csv").unlink()
    with pytest.raises(CourseError, match=r"no data/sleepstudy\.csv.*git checkout"):
        datasets.load("sleepstudy")


@pytest.mark.parametrize("ask", [datasets.load, datasets.describe, datasets.codebook])
def test_missing_directory(ask, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "DATA_DIRECTORY", tmp_path / "nowhere")
    with pytest.raises(CourseError, match="data directory: .*Clone the repository"):
        ask("sleepstudy")


@pytest.mark.parametrize("ask", [datasets.load, datasets.describe, datasets.codebook])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sleep_study", "Perhaps you want 'sleepstudy'"),
        ("HSB82", "Perhaps you want 'hsb82'"),
        ("orders.json", "Perhaps you want 'orders'"),
        ("", "There is: sleepstudy"),
        (3, "got 3"),
        (None, "got None"),
        (["orthodont"], "must name a data set"),
    ],
)
def test_unknown_name(ask, name, message):
    with pytest.raises(CourseError, match=message):
        ask(name)


def test_works_from_any_directory_and_imports_nothing_heavy(tmp_path):
    program = (
        "import sys; from course_lib.datasets import load; print(len(load('dyestuff')), "
        "[m for m in ('statsmodels', 'linearmodels', 'sklearn', 'shap', 'seaborn') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "30 []"
