import dataclasses

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib import load
from course_lib.errors import CourseError
from course_lib.reshape import encode_levels, flatten_nested

PATH, KEYS = ["orders", "items"], ["user", "id", "name"]


def users():
    return [
        {"user": "A", "orders": [{"id": 1, "items": [{"name": "pen", "price": 2.5}]}]},
        {
            "user": "B",
            "orders": [
                {
                    "id": 1,
                    "items": [{"name": "pen", "price": 2}, {"name": "ink", "price": 3.0}],
                },
                {"id": 2, "items": [{"name": "pen", "price": 2.0}]},
            ],
        },
    ]


def test_flatten_by_hand():
    rows, counts = flatten_nested(users(), PATH, KEYS)
    assert rows.to_dict("list") == {
        "user": ["A", "B", "B", "B"],
        "orders_id": [1, 1, 1, 2],
        "items_name": ["pen", "pen", "ink", "pen"],
        "items_price": [2.5, 2.0, 3.0, 2.0],
    }
    assert counts.to_dict("list") == {
        "level": ["record", "orders", "items"],
        "n_units": [2, 3, 4],
        "n_empty": [0, 0, 0],
    }


def test_plain_values_as_in_the_article():
    record = {"user": "Alice", "orders": [{"id": 101, "items": ["laptop", "mouse"]}]}
    rows, _ = flatten_nested(record, PATH, ["user", "id", None])
    assert rows.to_dict("list") == {
        "user": ["Alice", "Alice"],
        "orders_id": [101, 101],
        "items_number": [1, 2],
        "items": ["laptop", "mouse"],
    }


def test_the_orders_of_the_course():
    records = load("orders")
    with pytest.raises(CourseError, match=r"empty list at records\[3\].orders.*empty='drop'"):
        flatten_nested(records, PATH, KEYS)
    rows, counts = flatten_nested(records, PATH, KEYS, empty="drop")
    orders = [order for user in records for order in user["orders"]]
    items = [item for order in orders for item in order["items"]]
    assert counts["n_units"].tolist() == [len(records), len(orders), len(items)]
    n_empty = sum(not user["orders"] for user in records)
    assert counts["n_empty"].tolist() == [n_empty, 0, 0]
    assert rows["items_price"].tolist() == [item["price"] for item in items]
    # The keys of each level find as many units as there are
    assert rows["user"].nunique() == len(records) - n_empty
    assert rows.groupby(["user", "orders_id"]).ngroups == len(orders)
    assert not rows.duplicated(["user", "orders_id", "items_name"]).any()
    pd.testing.assert_frame_equal(
        encode_levels(rows, ["user", "orders_id"]).counts[["level", "n_units"]],
        pd.DataFrame({"level": ["user", "orders_id"], "n_units": [7, len(orders)]}),
    )


def test_numbers_for_levels_without_a_name():
    rows, _ = flatten_nested(users(), PATH, [None, None, None])
    assert rows["record_number"].tolist() == [1, 2, 2, 2]
    assert rows["orders_number"].tolist() == [1, 1, 1, 2]
    assert rows["items_number"].tolist() == [1, 1, 2, 1]
    assert rows["user"].tolist() == ["A", "B", "B", "B"]


def test_one_level_and_optional_fields():
    records = [{"g": 1, "rows": [{"y": 1.0}, {"y": None, "note": "x"}]}]
    rows, _ = flatten_nested(records, "rows", ["g", None])
    assert rows["rows_note"].isna().tolist() == [True, False]
    assert rows["rows_y"].isna().tolist() == [False, True]


def test_the_records_are_left_alone():
    records = users()
    flatten_nested(records, PATH, KEYS)
    assert records == users()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.lists(st.integers(), max_size=3), max_size=3), max_size=4))
def test_every_value_keeps_its_place(sizes):
    records = [
        {"rows": [{"id": j, "cells": cells} for j, cells in enumerate(row)]} for row in sizes
    ]
    values = [value for row in sizes for cells in row for value in cells]
    if not values:
        with pytest.raises(CourseError):
            flatten_nested(records, ["rows", "cells"], [None, "id", None], empty="drop")
        return
    rows, counts = flatten_nested(records, ["rows", "cells"], [None, "id", None], empty="drop")
    found = [
        sizes[i - 1][j][k - 1]
        for i, j, k in zip(
            rows["record_number"], rows["rows_id"], rows["cells_number"], strict=True
        )
    ]
    assert found == rows["cells"].tolist() == values
    assert counts["n_units"].tolist() == [len(sizes), sum(map(len, sizes)), len(values)]


def set_at(records, value, *path):
    """Put a value (or delete, for the class `del_`) deep into nested records."""
    target = records
    for step in path[:-1]:
        target = target[step]
    if value is KeyError:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return records


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        (KeyError, (1, "orders"), r"path: .*'orders' at records\[1\]"),
        (KeyError, (1, "orders", 1, "id"), r"keys: .*'id' at records\[1\].orders\[1\]"),
        (None, (0, "user"), r"keys: .*'user' at records\[0\]"),
        ({"id": 1}, (0, "orders"), r"must have a list at records\[0\].orders; .*\(dict\)"),
        ("pen", (0, "orders", 0, "items"), r"must have a list .*items; got 'pen' \(str\)"),
        (3, (1, "orders", 0), r"must have a record at records\[1\].orders\[0\]; got 3"),
        ("pen", (1, "orders", 1, "items", 0), r"must have a record at .*items\[0\]"),
        ([], (1, "orders", 1, "items"), r"an empty list at records\[1\].orders\[1\].items"),
        (1, (1, "orders", 1, "id"), r"once; got id=1 at .*orders\[0\] and .*orders\[1\]"),
        ("A", (1, "user"), r"each unit of records once; got user='A'"),
        ("2", (1, "orders", 1, "id"), "one type of 'orders_id'; got float at .*, str at"),
        ("2.0", (1, "orders", 1, "items", 0, "price"), "one type of 'items_price'"),
        (["x"], (0, "tags"), r"path: .*'tags' at records\[0\], a list"),
        (7, (0, "orders_id"), "must not give two fields one name; got 'orders_id'"),
    ],
)
def test_flatten_broken_records(value, path, message):
    with pytest.raises(CourseError, match=message):
        flatten_nested(set_at(users(), value, *path), PATH, KEYS)


def test_records_beside_plain_values():
    records = [{"g": 1, "rows": [{"y": 1}]}, {"g": 2, "rows": [5]}]
    with pytest.raises(CourseError, match=r"a record at records\[0\].rows\[0\], a value at"):
        flatten_nested(records, "rows", ["g", None])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"records": "users"}, "must have a list at records; got 'users'"),
        ({"records": []}, "at least one of 'items'"),
        ({"path": []}, "path: must name at least one"),
        ({"keys": ["user", "id"]}, r"one for each of path \(2\)"),
        ({"keys": "user"}, "keys: must be a list; got 'user'"),
        ({"keys": ["usr", "id", "name"]}, "Perhaps you want 'user'"),
        ({"path": ["orders", "itms"]}, "must lead through every nested field"),
        ({"empty": "keep"}, "empty: must be one of"),
    ],
)
def test_flatten_bad_arguments(arguments, message):
    with pytest.raises(CourseError, match=message):
        flatten_nested(**{"records": users(), "path": PATH, "keys": KEYS, **arguments})


# encode_levels


@pytest.fixture
def places():
    return pd.DataFrame(
        {"school": ["B", "A", "A", "B", "A"], "klass": [1, 2, 1, 1, 2]}, index=[5, 6, 7, 7, 9]
    )


def test_codes_keep_the_parent(places):
    coding = encode_levels(places, ["school", "klass"])
    assert coding.codes["school_code"].tolist() == [1, 0, 0, 1, 0]
    assert coding.codes["klass_code"].tolist() == [2, 1, 0, 2, 1]
    assert coding.codes.index.tolist() == places.index.tolist()
    assert coding.counts.to_dict("list") == {
        "level": ["school", "klass"],
        "n_units": [2, 3],
        "n_labels": [2, 2],
        "n_reused": [0, 1],
    }


def test_decode_is_the_inverse(places):
    coding = encode_levels(places, ["school", "klass"])
    back = coding.decode("klass", coding.codes["klass_code"])
    pd.testing.assert_frame_equal(back, places)
    assert coding.decode("school", [1, 0])["school"].tolist() == ["B", "A"]


def test_the_coding_is_frozen(places):
    coding = encode_levels(places, "school")
    assert coding.levels == ("school",)
    with pytest.raises(dataclasses.FrozenInstanceError):
        coding.levels = ()


def test_children_of_one_parent_have_consecutive_codes():
    growth = load("school_growth")
    coding = encode_levels(growth, ["school", "class_number", "student_id"])
    assert coding.counts["n_units"].tolist() == [6, 24, 240]
    assert coding.counts["n_reused"].tolist() == [0, 4, 0]
    # The class id is another name for school and class number together
    codes = coding.codes["class_number_code"]
    assert codes.groupby(growth["class_id"]).nunique().tolist() == [1] * 24
    parents = coding.labels["student_id"]["school"]
    assert parents.is_monotonic_increasing


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 3), st.text(max_size=2))))
def test_codes_are_names_of_units(rows):
    if not rows:
        return
    data = pd.DataFrame(rows, columns=["a", "b", "c"])
    coding = encode_levels(data, ["a", "b", "c"])
    for depth, level in enumerate("abc", start=1):
        codes = coding.codes[f"{level}_code"]
        units = {row[:depth] for row in rows}
        assert set(codes) == set(range(len(units)))
        decoded = coding.decode(level, codes)
        assert [tuple(row) for row in decoded.to_numpy()] == [row[:depth] for row in rows]


@pytest.mark.parametrize(
    ("change", "levels", "message"),
    [
        ({}, ["school", "class"], "'class', which is not one"),
        ({}, [], "levels: must name at least one column"),
        ({}, ["school", "school"], "each once"),
        (
            {"school": ["B", None, "A", "B", "A"]},
            ["school", "klass"],
            "1 of 5 rows, first row 6",
        ),
        (
            {"klass": [1, "1", 1, 1, 2]},
            ["school", "klass"],
            r"one type in 'klass' \(here int\); got 1 of 5 rows, first row 6: school=A",
        ),
    ],
)
def test_encode_bad_input(places, change, levels, message):
    with pytest.raises(CourseError, match=message):
        encode_levels(places.assign(**change), levels)


def test_encode_bad_data(places):
    with pytest.raises(CourseError, match="must be a pandas DataFrame"):
        encode_levels({"school": ["A"]}, ["school"])
    with pytest.raises(CourseError, match="at least one row"):
        encode_levels(places.iloc[:0], ["school"])


def test_decode_bad_input(places):
    coding = encode_levels(places, ["school", "klass"])
    with pytest.raises(CourseError, match="Perhaps you want"):
        coding.decode("clas", [0])
    with pytest.raises(CourseError, match="codes of 'klass', 0 to 2; got 3, -1"):
        coding.decode("klass", [0, 3, -1])
