import hashlib
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest

from course_lib.errors import CourseError
from course_lib.explain import log as explanation_log
from course_lib.explain.log import ExplanationLog, hash_inputs

INPUTS = {"ses": 0.3, "school": "1224", "female": True, "size": 842}
DRIVERS = {"ses": 0.5, "school": -2.0, "size": 0.25}
NOON = "2026-03-01T12:00:00+00:00"
DAY = timedelta(days=1)

# A writer for the tests with real processes: it says "number" on its standard output, once
# a record is acknowledged.
WRITER = """
import sys
from course_lib.explain.log import ExplanationLog
path, name, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
with ExplanationLog(path) as log:
    for i in range(n):
        inputs = {f"x{k}": float(i) for k in range(20)}
        drivers = {name: 1.0 + k for k, name in enumerate(inputs)}
        log.record(name, inputs, i, drivers, top=20)
        print(i, flush=True)
"""


def start_writer(path, name, n):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(n)],
        stdout=subprocess.PIPE,
        text=True,
    )


def rows_of(path, sql):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def assert_all_complete(path):
    """Every record has all its drivers, and the file is sound."""
    assert rows_of(path, "PRAGMA integrity_check") == [("ok",)]
    stored = rows_of(path, "SELECT drivers FROM record")
    assert stored
    assert {len(json.loads(drivers)) for (drivers,) in stored} == {20}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.sqlite"


@pytest.fixture
def log(path):
    with ExplanationLog(path) as opened:
        yield opened


def test_record_and_read_back(log):
    assert log.record("forest", INPUTS, 12.5, DRIVERS, at=NOON) == 1
    expected = pd.DataFrame(
        {
            "id": 1,
            "at": pd.Series([datetime(2026, 3, 1, 12, tzinfo=UTC)] * 3).astype(
                "datetime64[us, UTC]"
            ),
            "model": "forest",
            "inputs_sha256": hash_inputs(INPUTS),
            "prediction": 12.5,
            "rank": [1, 2, 3],
            "driver": ["school", "ses", "size"],
            "value": ["1224", 0.3, 842],
            "contribution": [-2.0, 0.5, 0.25],
        }
    )
    texts = ["model", "inputs_sha256", "driver", "value"]
    expected[texts] = expected[texts].astype(object)
    pd.testing.assert_frame_equal(log.to_frame(), expected)


def test_only_the_top_drivers_are_kept_ties_by_name(log):
    inputs = dict.fromkeys("abcd", 1)
    log.record("m", inputs, 0, {"d": 1, "b": -1, "c": 3, "a": 0}, top=3)
    assert list(log.to_frame()["driver"]) == ["c", "b", "d"]
    log.record("m", inputs, 0, pd.Series({"d": 1.0}))
    assert len(log.to_frame()) == 4


def test_numbers_come_back_bit_for_bit(log):
    numbers = [0.1, 1 / 3, -5e-324, 1.7976931348623157e308, np.nextafter(1, 2), 3.0]
    for number in numbers:
        log.record("m", {"x": number}, number, {"x": -number})
    frame = log.to_frame()
    assert [float(number).hex() for number in numbers] == [v.hex() for v in frame["value"]]
    assert list(frame["prediction"]) == numbers
    assert list(-frame["contribution"]) == numbers


def test_values_of_other_types(log):
    row = pd.Series({"n": np.int64(2**62 + 1), "b": np.True_, "t": "naïve", "f": np.float32(2)})
    log.record("m", row, np.float32(1), dict.fromkeys(row.index, 1.0))
    values = log.to_frame().set_index("driver")["value"].to_dict()
    assert values == {"n": 2**62 + 1, "b": 1, "t": "naïve", "f": 2.0}


def test_time_is_now_in_utc(log):
    before = datetime.now(UTC)
    log.record("m", INPUTS, 1, DRIVERS)
    assert before <= log.to_frame()["at"][0] <= datetime.now(UTC)


@pytest.mark.parametrize(
    "at",
    [
        "2026-03-01T12:00:00Z",
        "2026-03-01T13:00:00+01:00",
        datetime(2026, 3, 1, 7, tzinfo=timezone(timedelta(hours=-5))),
        pd.Timestamp("2026-03-01T12:00:00.000000001", tz="UTC"),
    ],
)
def test_times_are_stored_in_utc(log, path, at):
    log.record("m", INPUTS, 1, DRIVERS, at=at)
    stored = rows_of(path, "SELECT at FROM record")
    assert stored == [("2026-03-01T12:00:00.000000+00:00",)]


@pytest.fixture
def three_days(log):
    start = datetime(2026, 3, 1, tzinfo=UTC)
    log.record("forest", INPUTS, 1, {"ses": 1, "size": 2}, at=start)
    log.record("forest", INPUTS, 2, {"ses": 1}, at=start + DAY)
    log.record("lmer", INPUTS, 3, {"size": 1}, at=start + 2 * DAY)
    return log, start


def test_query_by_driver_and_model(three_days):
    log, _ = three_days
    assert list(log.query(driver="ses")["id"]) == [1, 2]
    assert set(log.query(driver="size")["driver"]) == {"size"}
    assert list(log.query(model="forest")["id"]) == [1, 1, 2]
    assert list(log.query(driver="size", model="lmer")["id"]) == [3]
    assert len(log.query()) == 4


def test_period_includes_its_start_and_excludes_its_end(three_days):
    log, start = three_days
    microsecond = timedelta(microseconds=1)
    assert list(log.query(since=start + DAY)["id"]) == [2, 3]
    assert list(log.query(since=start + DAY + microsecond)["id"]) == [3]
    assert list(log.query(until=start + DAY)["id"]) == [1, 1]
    assert list(log.query(until=start + DAY + microsecond)["id"]) == [1, 1, 2]
    assert list(log.query(driver="ses", since=start + DAY, until=start + 2 * DAY)["id"]) == [2]
    assert log.query(since=start, until=start).empty


def test_empty_answer_has_the_columns_and_types_of_a_full_one(three_days):
    log, _ = three_days
    nothing = log.query(driver="nobody")
    assert len(nothing) == 0
    assert list(nothing.columns) == list(log.to_frame().columns)
    pd.testing.assert_series_equal(nothing.dtypes, log.to_frame().dtypes)


def test_log_can_be_reopened(path):
    for _ in range(3):
        with ExplanationLog(str(path)) as log:
            log.record("m", INPUTS, 1, DRIVERS)
    with ExplanationLog(path) as log:
        assert list(log.to_frame()["id"].unique()) == [1, 2, 3]
    assert [entry.name for entry in path.parent.iterdir()] == ["log.sqlite"]


# The hash


def test_hash_is_the_documented_one():
    canonical = json.dumps(
        [
            ["female", "boolean", "True"],
            ["school", "text", "1224"],
            ["ses", "number", "0.3"],
            ["size", "number", "842"],
        ],
        separators=(",", ":"),
    )
    assert hash_inputs(INPUTS) == hashlib.sha256(canonical.encode()).hexdigest()


@pytest.mark.parametrize(
    "same",
    [
        dict(reversed(INPUTS.items())),
        pd.Series(INPUTS),
        pd.DataFrame([INPUTS]).iloc[0],
        INPUTS | {"size": 842.0},
        INPUTS | {"size": np.int16(842), "ses": np.float64(0.3), "female": np.True_},
    ],
)
def test_hash_does_not_depend_on_order_or_container(same):
    assert hash_inputs(same) == hash_inputs(INPUTS)


@pytest.mark.parametrize(
    "other",
    [
        INPUTS | {"ses": np.nextafter(0.3, 1)},
        INPUTS | {"ses": -0.3},
        INPUTS | {"ses": np.float32(0.3)},
        INPUTS | {"female": 1},
        INPUTS | {"school": 1224},
        INPUTS | {"school": "1224 "},
        INPUTS | {"x": 0},
        {name.upper(): value for name, value in INPUTS.items()},
        INPUTS | {"ses": 842, "size": 0.3},
    ],
)
def test_hash_tells_inputs_apart(other):
    assert hash_inputs(other) != hash_inputs(INPUTS)


def test_zero_has_no_sign():
    assert hash_inputs({"x": -0.0}) == hash_inputs({"x": 0})


# Append-only


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE record SET prediction = 99",
        "UPDATE record SET drivers = '[[]]' WHERE id = 1",
        "DELETE FROM record",
        "INSERT OR REPLACE INTO record SELECT 1, at, 'm', 'x', 9.5, drivers FROM record",
        "INSERT INTO record SELECT -1, at, 'm', 'x', 9.5, drivers FROM record",
        "INSERT INTO record SELECT NULL, at, 'm', 'x', 'nine', drivers FROM record",
        "INSERT INTO record SELECT NULL, at, 'm', 'x', 9.5, '[]' FROM record",
    ],
)
def test_what_is_written_stays(log, path, statement):
    log.record("m", INPUTS, 1, DRIVERS)
    before = log.to_frame()
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as connection,
        pytest.raises(sqlite3.IntegrityError, match="append-only|CHECK"),
    ):
        connection.execute(statement)
    pd.testing.assert_frame_equal(log.to_frame(), before)
    assert log.record("m", INPUTS, 1, DRIVERS) == 2


# Real processes


@pytest.mark.slow
def test_concurrent_writers_lose_nothing(path):
    n_writers, n_records = 3, 25
    writers = [start_writer(path, f"writer {i}", n_records) for i in range(n_writers)]
    assert [len(w.communicate(timeout=60)[0].split()) for w in writers] == [n_records] * 3
    assert [w.returncode for w in writers] == [0] * n_writers
    assert_all_complete(path)
    with ExplanationLog(path) as log:
        for i in range(n_writers):
            frame = log.query(model=f"writer {i}", driver="x0")
            assert list(frame["prediction"]) == list(range(n_records))


@pytest.mark.slow
def test_killed_writer_loses_nothing_acknowledged(path):
    n_acknowledged = {}
    for i, n_seen in enumerate((1, 9)):
        writer = start_writer(path, f"writer {i}", 100_000)
        lines = [writer.stdout.readline() for _ in range(n_seen)]
        writer.kill()
        # Not communicate(): with a timeout it drops what readline() has read ahead.
        lines += writer.stdout.read().splitlines()
        writer.stdout.close()
        assert writer.wait(timeout=60) != 0
        n_acknowledged[f"writer {i}"] = int(lines[-1]) + 1
    with ExplanationLog(path) as log:  # rolls back what was not committed
        for name, n in n_acknowledged.items():
            predictions = list(log.query(model=name, driver="x0")["prediction"])
            # The kill may fall between a commit and its acknowledgement: one more, never less.
            assert predictions in (list(range(n)), list(range(n + 1)))
    assert_all_complete(path)


KILLED_INSIDE = """
import os, signal, sqlite3, sys
from course_lib.explain import log as explanation_log
from course_lib.explain.log import ExplanationLog

class Connection(sqlite3.Connection):
    def execute(self, sql, *values):
        if "INSERT INTO record" not in sql:
            return super().execute(sql, *values)
        super().execute("BEGIN IMMEDIATE")
        super().execute(sql, *values)
        # Push the half record from memory into the file, as a large transaction does.
        super().execute("CREATE TABLE filler (x)")
        super().execute("INSERT INTO filler WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL"
                     " SELECT i + 1 FROM c WHERE i < 500) SELECT randomblob(4000) FROM c")
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

connect = sqlite3.connect
explanation_log.sqlite3.connect = lambda *a, **k: connect(*a, factory=Connection, **k)
with ExplanationLog(sys.argv[1]) as log:
    log._connection.execute("PRAGMA cache_size = 5")
    log.record("half", {"x": 1, "y": 2}, 1, {"x": 1, "y": 2})
"""


@pytest.mark.slow
def test_process_killed_before_its_record_is_committed(path):
    with ExplanationLog(path) as log:
        log.record("whole", INPUTS, 1, DRIVERS)
        size = path.stat().st_size
    for _ in range(2):
        run = subprocess.run([sys.executable, "-c", KILLED_INSIDE, str(path)], timeout=60)
        assert run.returncode != 0
        assert path.stat().st_size > 10 * size  # half a record did reach the file
        with ExplanationLog(path) as log:
            assert set(log.to_frame()["model"]) == {"whole"}
            assert log.record("whole", INPUTS, 1, DRIVERS) > 1
        assert rows_of(path, "PRAGMA integrity_check") == [("ok",)]
        assert rows_of(path, "SELECT count(*) FROM sqlite_master WHERE name='filler'") == [(0,)]
    assert rows_of(path, "SELECT count(*), max(id) FROM record") == [(3, 3)]


def test_log_that_another_makes_meanwhile(path, monkeypatch):
    is_empty = explanation_log._is_empty

    def before_another(connection, path):
        answer = is_empty(connection, path)
        monkeypatch.undo()
        with ExplanationLog(path) as other:
            other.record("other", INPUTS, 1, DRIVERS)
        return answer

    monkeypatch.setattr(explanation_log, "_is_empty", before_another)
    with ExplanationLog(path) as log:
        assert log.record("m", INPUTS, 1, DRIVERS) == 2
        assert list(log.to_frame()["model"].unique()) == ["other", "m"]


@pytest.mark.slow
def test_writer_waits_for_another(path):
    with ExplanationLog(path) as log, closing(sqlite3.connect(path)) as other:
        writer = start_writer(path, "patient", 1)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(timeout=1.5)
        other.rollback()
        assert writer.wait(timeout=60) == 0
        writer.stdout.close()
        assert list(log.query(driver="x0")["model"]) == ["patient"]


def test_writer_that_has_waited_too_long_says_so(log, path):
    log._connection.execute("PRAGMA busy_timeout = 10")
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CourseError, match="path: .*database is locked"):
            log.record("m", INPUTS, 1, DRIVERS)
        other.rollback()
    assert log.record("m", INPUTS, 1, DRIVERS) == 1


def test_commits_are_durable(log):
    assert log._connection.execute("PRAGMA synchronous").fetchone() == (3,)  # EXTRA
    assert log._connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


# Bad input


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ({"model": ""}, "model: must be a non-empty string"),
        ({"model": None}, "model: must be a non-empty string"),
        ({"model": "\ud800"}, "model: must be a non-empty string of valid Unicode"),
        ({"inputs": {}}, "inputs: must be a dict or Series.*not empty"),
        ({"inputs": pd.DataFrame([INPUTS])}, "inputs: must be a dict or Series"),
        ({"inputs": INPUTS | {"ses": np.nan}}, r"inputs\['ses'\]: must be a finite number"),
        ({"inputs": INPUTS | {"ses": None}}, r"inputs\['ses'\]: must be a finite number"),
        ({"inputs": INPUTS | {"ses": pd.NA}}, r"inputs\['ses'\]: must be a finite number"),
        ({"inputs": INPUTS | {"ses": 10**400}}, r"inputs\['ses'\]: must be a finite number"),
        ({"inputs": INPUTS | {"ses": 2**63}}, r"inputs\['ses'\]: .*if an int is too large"),
        ({"inputs": INPUTS | {"ses": [1]}}, r"inputs\['ses'\]: must be a finite number"),
        ({"inputs": INPUTS | {"school": ""}}, r"inputs\['school'\]: .* a non-empty string"),
        ({"inputs": INPUTS | {1: 2}}, "names of inputs: must be a non-empty string"),
        ({"inputs": pd.Series([1, 2], index=["ses", "ses"])}, "inputs: .*each name once"),
        ({"prediction": np.inf}, "prediction: must be a finite number"),
        ({"prediction": "12"}, "prediction: must be a finite number"),
        ({"prediction": True}, "prediction: must be a finite number"),
        ({"prediction": np.array([1.0])}, "prediction: must be a finite number"),
        ({"drivers": {}}, "drivers: must be a dict or Series.*not empty"),
        ({"drivers": ["ses"]}, "drivers: must be a dict or Series"),
        ({"drivers": {"ses": np.nan}}, r"drivers\['ses'\]: must be a finite number"),
        ({"drivers": {"ses": 1, "size": "2"}}, r"drivers\['size'\]: must be a finite number"),
        ({"drivers": {"SES": 1}}, "drivers: .*got 'SES'. Perhaps you want .*'ses'"),
        ({"top": 0}, "top: must be a whole number of at least 1"),
        ({"at": "2026-03-01"}, "at: must be a time with its offset from UTC"),
        ({"at": "2026-03-01T12:00:00"}, "at: must be a time with its offset"),
        ({"at": datetime(2026, 3, 1)}, "at: must be a time with its offset"),
        ({"at": "yesterday"}, "at: must be a time with its offset"),
        ({"at": "0001-01-01T00:00:00+05:00"}, "at: must be a time with its offset"),
        ({"at": pd.NaT}, "at: must be a time with its offset"),
        ({"at": 1772366400}, "at: must be a time with its offset"),
    ],
)
def test_bad_record_is_refused_and_nothing_written(log, path, bad, match):
    good = {"model": "m", "inputs": INPUTS, "prediction": 1, "drivers": DRIVERS}
    before = path.read_bytes()
    with pytest.raises(CourseError, match=match):
        log.record(**(good | bad))
    assert path.read_bytes() == before
    assert log.to_frame().empty


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ({"driver": 1}, "driver: must be a non-empty string"),
        ({"model": ["m"]}, "model: must be a non-empty string"),
        ({"since": "March"}, "since: must be a time with its offset"),
        ({"until": datetime(2026, 3, 1)}, "until: must be a time with its offset"),
        ({"since": NOON, "until": "2026-03-01T12:59:59+01:00"}, "since: must not be after"),
    ],
)
def test_bad_query(log, bad, match):
    with pytest.raises(CourseError, match=match):
        log.query(**bad)


def test_closed_log(path):
    log = ExplanationLog(path)
    log.close()
    log.close()
    with pytest.raises(CourseError, match="path: .*closed database.*open it again"):
        log.record("m", INPUTS, 1, DRIVERS)
    with pytest.raises(CourseError, match="path: .*closed database.*open it again"):
        log.query()


@pytest.mark.parametrize("bad", [None, 3, "", ":missing:/log.sqlite"])
def test_bad_path(bad, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CourseError, match="path: must name .* a new file in a folder"):
        ExplanationLog(bad)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows allows no colon in a name")
def test_log_is_always_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ExplanationLog(":memory:") as log:
        log.record("m", INPUTS, 1, DRIVERS)
    assert [entry.name for entry in tmp_path.iterdir()] == [":memory:"]


def test_folder_is_not_a_log(tmp_path):
    with pytest.raises(CourseError, match="path: .*unable to open database file"):
        ExplanationLog(tmp_path)


def foreign_text(path):
    path.write_text("at,model\n", encoding="utf-8")


def foreign_database(path, *statements):
    with closing(sqlite3.connect(path)) as connection:
        for statement in ("CREATE TABLE orders (id)", *statements):
            connection.execute(statement)
        connection.commit()


def foreign_wal_database(path):
    foreign_database(path, "PRAGMA journal_mode = WAL", "INSERT INTO orders VALUES (1)")


def foreign_version(path):
    foreign_database(path, "PRAGMA user_version = 1")


def later_version(path):
    ExplanationLog(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 3")


@pytest.mark.parametrize(
    "make",
    [
        foreign_text,
        foreign_database,
        foreign_wal_database,
        foreign_version,
        later_version,
    ],
)
def test_another_file_is_refused_and_left_alone(path, make):
    make(path)
    before = path.read_bytes()
    with pytest.raises(CourseError, match="path: must name an explanation log"):
        ExplanationLog(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["log.sqlite"]


def test_empty_file_becomes_a_log(path):
    path.touch()
    with ExplanationLog(path) as log:
        assert log.record("m", INPUTS, 1, DRIVERS) == 1
