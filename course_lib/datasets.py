"""The data sets of the course: bundled files, their codebook, and a check that they are intact.

Everything known about a file (source, licence, columns, checksum) stands in
``data/codebook.json`` and nowhere else; ``data/README.md`` is generated from it.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from course_lib.errors import course_error, suggestion

__all__ = ["DatasetInfo", "codebook", "describe", "load", "names"]


def _data_directory(package: Path) -> Path:
    """Return where the data are: a wheel brings them in the package, a clone beside it."""
    inside = package / "data"
    return inside if (inside / "codebook.json").is_file() else package.parent / "data"


DATA_DIRECTORY = _data_directory(Path(__file__).resolve().parent)

# A label names a thing: read as text, nobody averages it by accident.
_DTYPES = {"label": str, "integer": "int64", "number": "float64"}


@dataclass(frozen=True)
class DatasetInfo:
    """What is known about a data set as a whole.

    Attributes
    ----------
    name, file : str
        Name for `load`, and file in the data directory.
    title, row : str
        What the data are, and what one row is.
    n_rows : int
        Number of rows (for ``"orders"``: of users).
    source, doi, licence : str
        Where the data come from. `doi` is empty where the source has none.
    sha256 : str
        Checksum of the file with line ends LF.
    columns : tuple of dict
        Name, meaning, unit and type of each column, in the order of the file.
    simulation : dict or None
        For simulated data: the function, the seed, and the true parameters.
    """

    name: str
    file: str
    title: str
    row: str
    n_rows: int
    source: str
    doi: str
    licence: str
    sha256: str
    columns: tuple[dict, ...]
    simulation: dict | None = None


def names() -> list[str]:
    """Return the names that `load` knows.

    Examples
    --------
    >>> "hsb82" in names()
    True

    See Also
    --------
    load : Load one of them.
    """
    return list(_read_codebook())


def codebook(name: str) -> DatasetInfo:
    """Return source, licence, size and checksum of a data set.

    Parameters
    ----------
    name : str
        One of `names()`.

    Returns
    -------
    DatasetInfo
        What is known about the data set as a whole.

    Raises
    ------
    CourseError
        If there is no such data set, or the data directory is not found.

    Examples
    --------
    >>> codebook("sleepstudy").n_rows
    180

    See Also
    --------
    describe : The columns as a table.
    """
    entries = _read_codebook()
    if not isinstance(name, str) or name not in entries:
        raise course_error(
            "name",
            "must name a data set of the course",
            repr(name),
            suggestion(name, entries),
        )
    entry = entries[name]
    return DatasetInfo(name=name, **{**entry, "columns": tuple(entry["columns"])})


def describe(name: str) -> pd.DataFrame:
    """Return the codebook of the columns of a data set.

    Parameters
    ----------
    name : str
        One of `names()`.

    Returns
    -------
    pandas.DataFrame
        One row per column of the data: ``column``, ``meaning``, ``unit`` (empty for none),
        ``type`` ("label": text that names something; "integer"; "number").
        For ``"orders"``, ``column`` is the path in the nested list.

    Raises
    ------
    CourseError
        If there is no such data set, or the data directory is not found.

    Examples
    --------
    >>> describe("sleepstudy")["column"].tolist()
    ['Reaction', 'Days', 'Subject']

    See Also
    --------
    load : The data.
    codebook : The same with source, licence and checksum.
    """
    return pd.DataFrame(
        list(codebook(name).columns), columns=["column", "meaning", "unit", "type"]
    )


def load(name: str) -> pd.DataFrame | list[dict]:
    """Load a data set of the course, after checking that its file is intact.

    Parameters
    ----------
    name : str
        One of `names()`.

    Returns
    -------
    pandas.DataFrame or list of dict
        A fresh frame at every call; for ``"orders"`` the nested list of users.
        Labels (subjects, schools, batches, …) are text, even if they look like numbers.

    Raises
    ------
    CourseError
        If there is no such data set, if its file or the data directory is missing, or if
        the file is not the one that its checksum was taken of.

    Examples
    --------
    >>> sleep = load("sleepstudy")
    >>> list(sleep.columns)
    ['Reaction', 'Days', 'Subject']

    See Also
    --------
    describe : What the columns mean, and where the data come from.
    names : Which data sets there are.
    """
    info = codebook(name)
    content = _read_intact(info)
    if info.file.endswith(".json"):
        return json.loads(content)
    return pd.read_csv(
        io.BytesIO(content),
        dtype={column["column"]: _DTYPES[column["type"]] for column in info.columns},
        # Only an empty field is missing: a label "NA" would be a label.
        keep_default_na=False,
        na_values=[""],
    )


def _read_codebook() -> dict[str, dict]:
    path = DATA_DIRECTORY / "codebook.json"
    if not path.is_file():
        raise course_error(
            "data directory",
            "must hold codebook.json, in the package course_lib or beside it",
            f"no such file in {DATA_DIRECTORY}",
            "Clone the repository and install it there with `pip install -e .`, "
            "or restore the folder with `git checkout -- data`.",
        )
    return json.loads(path.read_text(encoding="utf-8"))


def _read_intact(info: DatasetInfo) -> bytes:
    path = DATA_DIRECTORY / info.file
    restore = f"Restore it with `git checkout -- data/{info.file}`."
    if not path.is_file():
        raise course_error(
            "name", "must name a data set whose file is there", f"no data/{info.file}", restore
        )
    content = _with_lf(path.read_bytes())
    found = hashlib.sha256(content).hexdigest()
    if found != info.sha256:
        raise course_error(
            f"data/{info.file}",
            f"must have the sha256 of the codebook, {info.sha256[:12]}…",
            f"{found[:12]}…: the file was changed",
            restore,
        )
    return content


def _with_lf(content: bytes) -> bytes:
    """Undo the line ends that git writes on Windows (core.autocrlf): the data are the same."""
    return content.replace(b"\r\n", b"\n")
