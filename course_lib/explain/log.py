"""A log of predictions and what drove them: one SQLite table that can only grow.

Each row is one record: when (UTC), which model, which inputs (as a SHA-256 hash), which
prediction, and the main drivers (name, value, signed contribution, in order of size) as JSON.
It answers "why did the model say that, in March?" with what the model's explanation said then.
A driver is what moved the model's output; it is not what caused the outcome.

A record is one row, so one INSERT, which SQLite writes completely or not at all. The triggers
below guard against mistakes, not against somebody who owns the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from course_lib.errors import CourseError, check_choice, check_count, course_error

__all__ = ["ExplanationLog", "hash_inputs"]

APPLICATION_ID = 0x584C4F47  # marks the file as such a log
VERSION = 2  # 1 had two tables
WAIT = 30.0  # seconds that a writer waits for the others
# A rollback journal (SQLite's default), not WAL: the log stays one file that can be copied,
# and needs no switch of mode at which processes that start together would collide. A killed
# process leaves a journal, and whoever opens the log next rolls back its half record. EXTRA
# is FULL plus a sync of the folder: a committed record also outlives a power cut.
DURABLE = "PRAGMA synchronous = EXTRA"
# The insert trigger is for INSERT OR REPLACE, which fires no delete trigger; without
# id > 0, the id -1 that such a trigger sees before an id is given could be taken.
# IF NOT EXISTS: another process may have made the log while this one waited for the lock.
REFUSE = "BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;"
SCHEMA = f"""
    BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS record (
        id INTEGER PRIMARY KEY CHECK (id > 0),
        at TEXT NOT NULL,
        model TEXT NOT NULL,
        inputs_sha256 TEXT NOT NULL,
        prediction REAL NOT NULL CHECK (typeof(prediction) = 'real'),
        drivers TEXT NOT NULL CHECK (drivers LIKE '[[%]]'));
    CREATE TRIGGER IF NOT EXISTS no_update BEFORE UPDATE ON record {REFUSE}
    CREATE TRIGGER IF NOT EXISTS no_delete BEFORE DELETE ON record {REFUSE}
    CREATE TRIGGER IF NOT EXISTS no_replace BEFORE INSERT ON record
        WHEN EXISTS (SELECT 1 FROM record WHERE id = NEW.id) {REFUSE}
    PRAGMA application_id = {APPLICATION_ID};
    PRAGMA user_version = {VERSION};
    COMMIT;
"""
# Everything in order; a condition that is not asked for is NULL.
QUERY = """
    SELECT id, at, model, inputs_sha256, prediction, drivers FROM record
    WHERE (:model IS NULL OR model = :model)
    AND (:since IS NULL OR at >= :since) AND (:until IS NULL OR at < :until) ORDER BY id
"""
RECORD = ["id", "at", "model", "inputs_sha256", "prediction"]
DRIVER = ["rank", "driver", "value", "contribution"]
UTC_TIME = "datetime64[us, UTC]"
DTYPES = {"id": int, "at": UTC_TIME, "prediction": float, "rank": int, "contribution": float}
# What can be stored: how a message names it, and the types of Python.
TEXT = ("a non-empty string of valid Unicode", str)
NUMBER = ("a finite number", int, float)
VALUE = ("a finite number, a boolean or a non-empty string", bool, int, float, str)


class ExplanationLog:
    """The log in the file `path`; created if the file does not exist or is empty.

    Open one in each process and thread; they may all write to the same file, and wait up to
    30 s for each other. Use it as a context manager, or `close` it.

    Parameters
    ----------
    path : str or os.PathLike
        File in an existing folder.

    Raises
    ------
    CourseError
        If the folder does not exist, or the file is not such a log (it is left as it was).

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, ExplanationLog(f"{folder}/log.sqlite") as log:
    ...     number = log.record("lmer 1", {"ses": 0.3, "size": 842}, 12.5, {"ses": 0.5})
    ...     found = log.query(driver="ses")
    >>> number, found["contribution"].tolist()
    (1, [0.5])

    See Also
    --------
    hash_inputs : How the inputs are named in it.
    course_lib.explain.linear_shap : Contributions to record.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        if not isinstance(path, str | os.PathLike):
            raise _bad_path(path, "not a path")
        self.path = Path(path)
        with _course_errors(self.path):
            # Absolute, so that ":memory:" is a file too. Each statement is a transaction.
            file = self.path.absolute()
            self._connection = sqlite3.connect(file, timeout=WAIT, isolation_level=None)
            try:
                self._connection.execute(DURABLE)
                if _is_empty(self._connection, self.path):
                    self._connection.executescript(SCHEMA)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> ExplanationLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. What was recorded is in it already."""
        self._connection.close()

    def record(
        self,
        model: str,
        inputs: Mapping[str, object] | pd.Series,
        prediction: float,
        drivers: Mapping[str, float] | pd.Series,
        *,
        top: int = 5,
        at: datetime | str | None = None,
    ) -> int:
        """Append one prediction with its main drivers, in one transaction.

        Parameters
        ----------
        model : str
            Name (and version) of the model.
        inputs : mapping or Series
            What the model was given, by name: finite numbers, booleans, or non-empty strings.
        prediction : float
            What it answered; finite.
        drivers : mapping or Series
            Signed contribution to the prediction by name of the input; finite.
        top : int
            How many drivers are kept: those of largest absolute contribution, ties by name.
        at : datetime or str, optional
            When, with its offset from UTC (``"2024-03-01T12:00:00+00:00"``); now, if None.
            Stored in UTC to the microsecond.

        Returns
        -------
        int
            Number of the record, which from here on survives a crash.

        Raises
        ------
        CourseError
            If an argument breaks its rule, or the file is locked for 30 s; nothing is written.
        """
        model, inputs = _check("model", model, TEXT), _check_named("inputs", inputs, VALUE)
        prediction = _check("prediction", prediction, NUMBER)
        drivers = _check_named("drivers", drivers, NUMBER)
        for name in drivers:
            check_choice("drivers", name, list(inputs))
        check_count("top", top)
        main = sorted(drivers.items(), key=lambda item: (-abs(item[1]), item[0]))[:top]
        stored = json.dumps([[name, inputs[name], float(share)] for name, share in main])
        at = _utc("at", datetime.now(UTC) if at is None else at)
        row = (at, model, hash_inputs(inputs), prediction, stored)
        with _course_errors(self.path):
            insert = "INSERT INTO record VALUES (NULL, ?, ?, ?, ?, ?)"
            return self._connection.execute(insert, row).lastrowid

    def query(
        self,
        *,
        driver: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        model: str | None = None,
    ) -> pd.DataFrame:
        """Return the drivers of the records that meet all the conditions given.

        Parameters
        ----------
        driver : str, optional
            Only the rows of this driver: of predictions that it was a main driver of.
        since, until : datetime or str, optional
            Period, since <= at < until (so that adjacent periods share no record), with the
            offset from UTC.
        model : str, optional
            Only this model, by its exact name.

        Returns
        -------
        DataFrame
            One row per driver, in order of record and rank: id, at (UTC), model, inputs_sha256,
            prediction, rank (1 = largest), driver, value (of the input),
            contribution. Empty if there is no such record.

        Raises
        ------
        CourseError
            If an argument breaks its rule, or the log is closed.
        """
        asked = {
            "model": None if model is None else _check("model", model, TEXT),
            "since": None if since is None else _utc("since", since),
            "until": None if until is None else _utc("until", until),
        }
        wanted = None if driver is None else _check("driver", driver, TEXT)
        if asked["since"] and asked["until"] and asked["since"] > asked["until"]:
            raise course_error("since", "must not be after until", since, "Swap them.")
        with _course_errors(self.path):
            records = self._connection.execute(QUERY, asked).fetchall()
        rows = [
            (number, datetime.fromisoformat(at), *head, rank, *driven)
            for number, at, *head, drivers in records
            for rank, driven in enumerate(json.loads(drivers), 1)
            if wanted in (None, driven[0])
        ]
        return pd.DataFrame(rows, columns=RECORD + DRIVER, dtype=object).astype(DTYPES)

    def to_frame(self) -> pd.DataFrame:
        """Return the whole log, as `query` without a condition does."""
        return self.query()


def hash_inputs(inputs: Mapping[str, object] | pd.Series) -> str:
    """Return the SHA-256 hash, 64 hexadecimal digits, of a model's inputs.

    Parameters
    ----------
    inputs : mapping or Series
        Values by name, in any order: finite numbers, booleans, or non-empty strings.

    Returns
    -------
    str
        Hash of the JSON list of [name, type, value], sorted by name. Numbers count by value
        (3, 3.0 and numpy.float32(3) are the same; 0.0 and -0.0 too), at full double precision
        (0.1 and numpy.float32(0.1) differ). Number 1, boolean True and string "1" differ.

    Raises
    ------
    CourseError
        If `inputs` is empty or names one twice, or a value is missing, infinite, an empty
        string, or of another type.

    Examples
    --------
    >>> hash_inputs({"ses": 1, "school": "A"})[:8]
    '04804383'
    >>> hash_inputs({"school": "A", "ses": 1.0})[:8]
    '04804383'

    See Also
    --------
    ExplanationLog : Where the hash is kept.
    """
    canonical = []
    for name, value in sorted(_check_named("inputs", inputs, VALUE).items()):
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # a row of a DataFrame turns whole numbers into floats
        kind = {bool: "boolean", str: "text"}.get(type(value), "number")
        canonical.append([name, kind, str(value)])
    text = json.dumps(canonical, separators=(",", ":"))  # ASCII
    return hashlib.sha256(text.encode()).hexdigest()


def _bad_path(path: object, why: object) -> CourseError:
    rule = f"must name an explanation log of version {VERSION}, or a new file in a folder"
    advice = "Name another, open it again, or wait until no other program holds it."
    return course_error("path", rule, f"{str(path)!r} ({why})", advice)


@contextmanager
def _course_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into the course's."""
    try:
        yield
    except sqlite3.Error as error:
        raise _bad_path(path, error) from error


def _is_empty(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is empty; raise unless it is that or a log."""
    marks = connection.execute(
        "SELECT application_id, user_version, EXISTS (SELECT * FROM sqlite_master)"
        " FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    if marks not in ((0, 0, 0), (APPLICATION_ID, VERSION, 1)):
        raise _bad_path(path, "an SQLite file of another kind or version")
    return marks == (0, 0, 0)


def _check_named(argument: str, values: object, wanted: tuple) -> dict:
    """Return a mapping or Series as a dict, if each name is there once and its value fits."""
    named = isinstance(values, Mapping | pd.Series)
    if not named or not 0 < len(values) == len(set(values.keys())):
        rule = "must be a dict or Series, name to value, not empty and with each name once"
        advice = "From a DataFrame, take one row: data.iloc[0]."
        raise course_error(argument, rule, f"{values!r:.60}", advice)
    return {
        _check(f"names of {argument}", name, TEXT): _check(f"{argument}['{name}']", x, wanted)
        for name, x in values.items()
    }


def _check(argument: str, value: object, wanted: tuple) -> bool | int | float | str:
    """Return the value, freed from NumPy, if its type is wanted and SQLite can hold it."""
    rule, *types = wanted
    value = value.item() if isinstance(value, np.generic) else value
    fits = type(value) in types
    if fits and isinstance(value, str):
        fits = "" != value == value.encode(errors="replace").decode()  # no half surrogate pair
    elif fits:
        fits = abs(value) <= (2**63 - 1 if isinstance(value, int) else sys.float_info.max)
    if not fits:
        advice = "Convert it by str(), or float() if an int is too large; drop what is missing."
        raise course_error(argument, f"must be {rule}", f"{value!a:.60}", advice)
    return value


def _utc(argument: str, value: object) -> str:
    """Return a time as ISO 8601 in UTC; all of one width, so that text sorts by time."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
        if time.utcoffset() is not None:  # or astimezone() would take it for local time
            return time.astimezone(UTC).isoformat(timespec="microseconds")
    except (AttributeError, TypeError, ValueError, OverflowError):
        pass
    rule = "must be a time with its offset from UTC"
    advice = "Pass datetime.now(UTC) or text such as '2024-03-01T12:00:00+00:00'."
    raise course_error(argument, rule, f"{value!r:.60}", advice)
