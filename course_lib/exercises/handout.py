"""Handing out: the course for students, without solutions and without lecturers' notes."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path

from course_lib.errors import course_error

__all__ = ["hand_out"]

COURSE = Path(__file__).resolve().parents[2]
# Of the course's folder; what is not named here (tests, a learner's copy, git) stays behind.
HANDED_OUT = (
    "README.md",
    "LICENSE",
    "pyproject.toml",
    "constraints.txt",
    "environment.yml",
    "start.py",
    "chapters",
    "course_lib",
    "data",
)
FOR_LECTURERS = (
    "chapters/solutions",
    "chapters/teaching.md",
    "chapters/serving.md",
    "chapters/concept_questions.md",
)
MADE = ("__pycache__", ".ipynb_checkpoints", "*.egg-info")  # by programs, in passing
BOX = re.compile(
    r"<details[^>]*>\s*<summary>For lecturers.*?</summary>.*?</details>[^\S\n]*\n*", re.S
)
# In Markdown files: what is for lecturers, or leads to a file that stays behind; and commands
# that run the tests, which stay behind, too.
MARKED = re.compile(
    r"<!-- lecturers -->\n.*?<!-- /lecturers -->\n+|^[^\n]*\bpytest\n", re.M | re.S
)


def hand_out(folder: str | Path) -> int:
    """Write the course without solutions and lecturers' notes into a new folder.

    Chapters keep their stored outputs; the book and the slides can be built there. The right
    answers stay computable from the library's source: who looks for them finds them.

    Parameters
    ----------
    folder : str or Path
        Where to; it must not exist yet. Nothing is ever overwritten.

    Returns
    -------
    int
        The number of notes for lecturers that were left out of notebooks.

    Raises
    ------
    CourseError
        If something of that name exists, or the course's own folder cannot be found.

    Examples
    --------
    >>> hand_out(".")
    Traceback (most recent call last):
    ...
    course_lib.errors.CourseError: folder: must not exist yet; got '.'. ...

    See Also
    --------
    course_lib.exercises.marking.mark : Mark what comes back.
    """
    target = new_folder(folder)
    if not (COURSE / "chapters").is_dir():
        rule, advice = (
            "needs the course's own folder",
            "Install the course with pip -e, from it.",
        )
        raise course_error("folder", rule, f"no 'chapters' beside {COURSE.name}", advice)
    # Whole or not at all: written beside the target, then renamed.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".handout-") as beside:
        draft = Path(beside, "course")
        draft.mkdir()
        for name in HANDED_OUT:
            copy(COURSE / name, draft / name)
        n_notes = sum(strip_notebook(path) for path in sorted(draft.rglob("*.ipynb")))
        for path in draft.rglob("*.md"):
            text = path.read_text(encoding="utf-8")
            path.write_text(MARKED.sub("", text), encoding="utf-8", newline="\n")
        draft.rename(target)
    return n_notes


def new_folder(folder: str | Path) -> Path:
    """Return the folder if it can be made and does not exist yet."""
    advice = "Give the name of a new folder."
    if not isinstance(folder, str | Path) or not str(folder).strip():
        raise course_error("folder", "must be the name of a folder", f"{folder!r:.200}", advice)
    target = Path(folder)
    if target.exists() or target.is_symlink():
        raise course_error("folder", "must not exist yet", f"'{folder}'", advice)
    if not target.parent.is_dir():
        rule = "must lie in a folder that exists"
        raise course_error("folder", rule, f"'{folder}'", advice)
    return target


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder, without what is for lecturers or made in passing."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=left_out)
    elif source.exists():  # not every course has every file
        shutil.copy2(source, target)


def left_out(folder: str, names: list[str]) -> set[str]:
    """Return which names of a folder stay behind, as `shutil.copytree` asks."""
    kept = {COURSE / name for name in FOR_LECTURERS}
    passing = shutil.ignore_patterns(*MADE)(folder, names)
    return passing | {name for name in names if Path(folder, name) in kept}


def strip_notebook(path: Path) -> int:
    """Take the notes for lecturers out of a notebook; return how many there were."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    n_notes, cells = 0, []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            source, n_boxes = BOX.subn("", source)
            n_notes += n_boxes
            if n_boxes:
                cell["source"] = source.rstrip().splitlines(keepends=True)
            if n_boxes and not source.strip():
                continue
        cells.append(cell)
    if n_notes:
        notebook["cells"] = cells
        text = json.dumps(notebook, ensure_ascii=False, indent=1)
        path.write_text(f"{text}\n", encoding="utf-8", newline="\n")
    return n_notes
