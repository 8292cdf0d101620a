"""Handing out: whole, without solutions and notes for lecturers, never over something else."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from course_lib.errors import CourseError
from course_lib.exercises import handout
from course_lib.exercises.__main__ import main
from course_lib.exercises.handout import BOX, COURSE, MARKED, hand_out, strip_notebook

LINK = re.compile(r"(?<!!)\]\((?!\w+:|#)([^)\s#]+)")


@pytest.fixture(scope="module")
def handed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("handing") / "course"
    return folder, hand_out(folder)


def pages(folder):
    return [*folder.glob("*.md"), *(folder / "chapters").rglob("*.md")]


def notebooks(folder):
    return sorted(p.relative_to(folder) for p in (folder / "chapters").rglob("*.ipynb"))


def texts(path, kinds=("markdown", "code")):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] in kinds]


def test_all_chapters_are_there_and_no_solutions(handed):
    folder, _ = handed
    own = [p for p in notebooks(COURSE) if "solutions" not in p.parts and p.parts[1][0] != "."]
    assert [p for p in own if ".ipynb_checkpoints" not in p.parts] == notebooks(folder)
    assert not list(folder.rglob("solutions"))
    assert not (folder / "chapters" / "teaching.md").exists()
    for name in ("course_lib/mixed/result.py", "data/sleepstudy.csv", "constraints.txt"):
        assert (folder / name).read_bytes() == (COURSE / name).read_bytes()


def test_no_note_for_lecturers_is_left(handed):
    folder, n_notes = handed
    assert n_notes > 5
    for path in notebooks(folder):
        text = "\n".join(texts(folder / path))
        assert "For lecturers" not in text, path
        assert text.count("<details") == text.count("</details>"), path


def test_nothing_else_of_a_notebook_is_changed(handed):
    folder, _ = handed
    for path in notebooks(folder):
        here, there = texts(COURSE / path), texts(folder / path)
        kept = [text for text in here if "For lecturers" not in text]
        assert [text for text in there if text in kept] == kept, path
        if len(kept) == len(here):
            assert (folder / path).read_bytes() == (COURSE / path).read_bytes()


def test_no_link_leads_to_what_stays_behind(handed):
    folder, _ = handed
    broken = []
    for path in pages(folder):
        found = LINK.findall(path.read_text(encoding="utf-8"))
        broken += [
            f"{path.name}: {link}" for link in found if not (path.parent / link).exists()
        ]
    for path in notebooks(folder):
        found = LINK.findall("\n".join(texts(folder / path, "markdown")))
        here = (folder / path).parent
        broken += [f"{path}: {link}" for link in found if not (here / link).exists()]
    assert broken == []


def test_no_page_speaks_of_what_stays_behind(handed):
    text = "\n".join(path.read_text(encoding="utf-8") for path in pages(handed[0]))
    assert "lecturers -->" not in text
    assert not re.search(r"pytest$", text, re.M)
    assert "<!-- start-command -->" in text


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    for name in ("file", "empty", "."):
        with pytest.raises(CourseError, match="^folder: must not exist yet"):
            hand_out(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("folder", [None, 3, "", "no/such/place"])
def test_a_folder_is_asked_for(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CourseError, match="^folder: must"):
        hand_out(folder)
    assert list(tmp_path.iterdir()) == []


def test_half_a_course_is_never_written(tmp_path, monkeypatch):
    def fail(path):
        raise OSError("disk full")

    monkeypatch.setattr(handout, "strip_notebook", fail)
    with pytest.raises(OSError, match="disk full"):
        hand_out(tmp_path / "course")
    assert list(tmp_path.iterdir()) == []


def test_an_installed_library_has_no_course(tmp_path, monkeypatch):
    monkeypatch.setattr(handout, "COURSE", tmp_path)
    with pytest.raises(CourseError, match="needs the course's own folder"):
        hand_out(tmp_path / "course")


def test_command(tmp_path, capsys):
    assert main(["handout", str(tmp_path / "course")]) == 0
    assert "without solutions" in capsys.readouterr().out
    assert main(["handout", str(tmp_path / "course")]) == 2
    assert "must not exist yet" in capsys.readouterr().err


@pytest.mark.thorough  # half a minute; tests/test_book.py looks at the pages
def test_the_book_can_be_built_from_the_handout(handed, tmp_path):
    pytest.importorskip("myst_nb", reason="the extra `book` is not installed")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-c",
        "chapters/_book",
    ]
    run = subprocess.run(
        [*command, "chapters", str(tmp_path / "book")],
        capture_output=True,
        text=True,
        cwd=handed[0],
    )
    assert run.stderr == ""
    assert run.returncode == 0
    assert len(list(Path(tmp_path, "book").glob("0*.html"))) == 9
    assert "For lecturers" not in (tmp_path / "book" / "index.html").read_text(encoding="utf-8")


# The two patterns, on text small enough to check by eye.


def test_boxes_are_cut_out_of_their_cell(tmp_path):
    note = "<details><summary>For lecturers</summary>\n\nsay **this**\n\n</details>"
    other = "<details><summary>Small print: a</summary>\n\nb\n\n</details>"
    cells = [
        {"cell_type": "markdown", "source": [f"{note}\n"]},
        {"cell_type": "markdown", "source": f"# A\n\n{note}\n\n{other}\n\n{note}"},
        {"cell_type": "code", "source": f"'''{note}'''"},
    ]
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    assert strip_notebook(path) == 3
    assert texts(path) == [f"# A\n\n{other}", f"'''{note}'''"]
    assert strip_notebook(path) == 0


def test_marked_passages_and_test_commands_are_cut_out():
    text = "a\n\n<!-- lecturers -->\nb\n<!-- /lecturers -->\n\nc\n"
    text += "```\npip\n.venv/bin/python -m pytest\n```\n"
    assert MARKED.sub("", text) == "a\n\nc\n```\npip\n```\n"
    assert MARKED.sub("", "run `pytest`\n") == "run `pytest`\n"
    assert (
        BOX.sub("", "a <details open>\n<summary>For lecturers: x</summary> b</details>") == "a "
    )
