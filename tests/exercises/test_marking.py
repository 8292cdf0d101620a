"""Marking returned files: right, wrong, blank, crashing, endless, huge, renamed, others."""

import csv
import json
import os
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from course_lib.errors import CourseError
from course_lib.exercises import check, marking
from course_lib.exercises.__main__ import main
from course_lib.exercises.checker import Verdict
from course_lib.exercises.marking import (
    COLUMNS,
    LONGEST,
    MOST_BYTES,
    in_order,
    mark,
    marks_of,
    read_verdicts,
    summary,
    told,
)

IMPORT = "from course_lib.exercises import check"
RIGHT = 'check("1.4", "AE")'
WRONG = 'check("1.4", "EA")'
ENDLESS = "while True: print('x' * 1000)"
STUBBORN = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
RETURNED = {
    "right.ipynb": [IMPORT, WRONG, RIGHT, 'answer = "BC"\ncheck("1.5", answer);'],
    "wrong (1).ipynb": [IMPORT, WRONG, 'check("1.1", "text")'],
    "blank.ipynb": [IMPORT, 'answer = ...\ncheck("1.4", answer)'],
    "late/errors.ipynb": [IMPORT, "1 / 0", RIGHT, "open('written', 'w')", "nowhere", "input()"],
    "crash.ipynb": [IMPORT, RIGHT, "import os; os._exit(3)", WRONG],
    "endless.ipynb": [IMPORT, RIGHT, ENDLESS, 'check("1.5", "BC")', STUBBORN, WRONG],
}


def write_notebook(path, sources, **metadata):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    path.parent.mkdir(exist_ok=True)
    path.write_text(nbformat.writes(notebook), encoding="utf-8")


def not_notebooks(folder):
    (folder / "essay.pdf").write_bytes(b"%PDF-1.7\xff\xfe")
    (folder / "empty.ipynb").write_bytes(b"")
    (folder / "list.ipynb").write_text("[1, 2]", encoding="utf-8")
    (folder / "half.ipynb").write_text('{"nbformat": 4, "cells": [{"', encoding="utf-8")
    (folder / "deep.ipynb").write_text("[" * 100_000, encoding="utf-8")
    (folder / "other.ipynb").write_text('{"nbformat": "x", "cells": 1}', encoding="utf-8")
    with (folder / "huge.ipynb").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    (folder / ".hidden").write_text("", encoding="utf-8")


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """Mark everything that a class may return, once."""
    base = tmp_path_factory.mktemp("marking")
    folder = base / "returned"
    folder.mkdir()
    for name, sources in RETURNED.items():
        kernel = {"kernelspec": {"name": "ir", "display_name": "R"}}
        write_notebook(folder / name, sources, **(kernel if name == "right.ipynb" else {}))
    (folder / "wrong (1).ipynb").rename(folder / "renamed.ipynb.txt")
    not_notebooks(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(marking, "SECONDS_TO_WAKE", 5)
        table = mark(folder, base / "marks.csv", cell_seconds=5, notebook_seconds=60)
    return folder, base / "marks.csv", table.set_index("who")


@pytest.mark.slow
def test_every_returned_file_has_its_row_and_code_adds_none(marked):
    folder, _, table = marked
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert set(table.index) == files - {".hidden"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("who", "right", "tried", "hints", "errors"),
    [
        ("right.ipynb", "1.4 1.5", "1.4 1.5", "1.4: you exchanged the plans", ""),
        ("renamed.ipynb.txt", "", "1.1 1.4", "1.1: give a number, not text", ""),
        ("blank.ipynb", "", "", "", ""),
        ("late/errors.ipynb", "1.4", "1.4", "", "cell [2]: ZeroDivisionError"),
        ("late/errors.ipynb", "1.4", "1.4", "", "cell [5]: NameError"),
        ("late/errors.ipynb", "1.4", "1.4", "", "cell [6]: StdinNotImplementedError"),
        ("crash.ipynb", "1.4", "1.4", "", "stopped at cell [3]: it ended the kernel"),
        ("endless.ipynb", "1.4 1.5", "1.4 1.5", "", "cell [3]: interrupted"),
        ("endless.ipynb", "1.4 1.5", "1.4 1.5", "", "cell [5]: it cannot be interrupted"),
    ],
)
def test_what_notebooks_do_is_noted(marked, who, right, tried, hints, errors):
    row = marked[2].loc[who]
    assert (row["right"], row["tried"]) == (right, tried)
    assert (row["n_right"], row["n_tried"]) == (len(right.split()), len(tried.split()))
    for text, part in ((row["hints"], hints), (row["errors"], errors)):
        assert part in text
        assert bool(text) == bool(part)


@pytest.mark.slow
def test_the_csv_says_what_the_table_says(marked):
    _, path, table = marked
    stored = pd.read_csv(path, dtype=str, keep_default_na=False).set_index("who")
    assert stored.astype(str).equals(table.astype(str))


@pytest.mark.slow
def test_a_notebook_has_a_limit_too(tmp_path):
    write_notebook(tmp_path / "slow.ipynb", [IMPORT, RIGHT, "import time; time.sleep(30)"])
    *_, errors = marks_of(tmp_path / "slow.ipynb", 100, 5)
    assert "interrupted" in errors


def test_files_that_are_no_notebooks_are_told(tmp_path):
    folder = tmp_path / "returned"
    folder.mkdir()
    not_notebooks(folder)
    (folder / "link.ipynb").symlink_to(folder / "essay.pdf")
    os.mkfifo(folder / "pipe")
    table = mark(folder, tmp_path / "marks.csv").set_index("who")
    assert len(table) == 9
    assert table["errors"].str.startswith("not a notebook: ").all()
    assert (table["n_tried"] == 0).all()
    assert "20 MB" in table.loc["huge.ipynb", "errors"]


def test_names_that_no_spreadsheet_should_compute(tmp_path):
    folder = tmp_path / "returned"
    folder.mkdir()
    (folder / "=1+1.ipynb").write_text("", encoding="utf-8")
    (folder / os.fsdecode(b"caf\xe9\n.ipynb")).write_text("", encoding="utf-8")
    (folder / "王.ipynb").write_text("", encoding="utf-8")
    mark(folder, tmp_path / "marks.csv")
    with (tmp_path / "marks.csv").open(encoding="utf-8-sig", newline="") as file:
        who = [row[0] for row in csv.reader(file)]
    assert who == ["who", "'=1+1.ipynb", "caf? .ipynb", "王.ipynb"]


@pytest.mark.parametrize("folder", [None, 3, "", "no/such", __file__])
def test_a_folder_is_asked_for(folder, tmp_path):
    if folder == "":
        folder = tmp_path  # nothing in it
    with pytest.raises(CourseError, match="^folder: must be a folder with returned files"):
        mark(folder, tmp_path / "marks.csv")
    assert not (tmp_path / "marks.csv").exists()


@pytest.mark.parametrize("table", [None, "", "there.csv", "no/such/marks.csv"])
def test_a_table_is_never_overwritten(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.csv").write_text("earlier", encoding="utf-8")
    with pytest.raises(CourseError, match="^table: must be a new file"):
        mark(tmp_path, table)
    assert (tmp_path / "there.csv").read_text(encoding="utf-8") == "earlier"


def test_limits_are_whole_numbers(tmp_path):
    for limits in ({"cell_seconds": 0}, {"notebook_seconds": 1.5}):
        with pytest.raises(CourseError, match="_seconds: must be a whole number"):
            mark(tmp_path, tmp_path / "marks.csv", **limits)


def test_commands_tell_what_is_wrong(tmp_path, capsys):
    assert main(["mark", str(tmp_path / "none")]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("folder: must be a folder")
    assert said.out == ""


def test_command_shows_a_table(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "essay.txt").write_text("words", encoding="utf-8")
    assert main(["mark", str(tmp_path / "in"), "--table", str(tmp_path / "m.csv")]) == 0
    said = capsys.readouterr().out
    assert "essay.txt" in said
    assert "1 of 1 with errors" in said


# The page for lecturers.


def hidden_test():
    page = Path(__file__).resolve().parents[2] / "chapters" / "serving.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    return code.replace('"1.1"', '"1.4"')


def test_the_hidden_test_for_nbgrader_tells_right_from_wrong():
    exec(hidden_test(), {"answer": "AE"})
    for answer, words in (("EA", "exchanged the plans"), (..., "Not answered yet")):
        with pytest.raises(AssertionError, match=words):
            exec(hidden_test(), {"answer": answer})


# The parts.


def test_a_right_answer_stays_right_and_hints_are_kept():
    verdicts = [
        Verdict("2.10", False, "Not yet: a."),
        Verdict("2.10", True, "Right: b."),
        Verdict("2.9", None, "Not answered yet: c."),
        Verdict("2.2", True, "Right: d."),
        Verdict("2.2", False, "Not yet: e."),
    ]
    assert summary(verdicts) == (2, 2, "2.2 2.10", "2.2 2.10", "2.10: a. | 2.2: e.")
    assert summary([]) == (0, 0, "", "", "")
    assert in_order(["2.10", "2.9", "1.1", "2.9"]) == ["1.1", "2.9", "2.10"]


def test_errors_are_cut_short():
    assert told([]) == ""
    long = told(["a\n" * 500, "\ud800", "c", "d", "e"])
    assert long.startswith("a a a")
    assert long.endswith(" | ? | c | and 2 more")
    assert len(long) < LONGEST + 30
    long.encode("utf-8")


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    log = tmp_path / "log"
    assert read_verdicts(log) == []
    log.write_text(json.dumps(["1.1", True, "Right: a."]) + '\n["1.2", fal', encoding="utf-8")
    assert read_verdicts(log) == [Verdict("1.1", True, "Right: a.")]


def test_what_the_log_notes(tmp_path, monkeypatch):
    import importlib

    from course_lib.exercises.marking import log_verdicts

    session = importlib.import_module("course_lib.exercises.progress")
    monkeypatch.setattr(session, "record", session.record)  # restored afterwards
    monkeypatch.setattr(session, "session", {})
    log_verdicts(str(tmp_path / "log"))
    for answer in ("EA", "EA", ..., "AE"):
        check("1.4", answer)
    assert [verdict.correct for verdict in read_verdicts(tmp_path / "log")] == [
        False,
        None,
        True,
    ]
    assert session.session["1.4"] == (True, 3)
    assert COLUMNS[0] == "who"
