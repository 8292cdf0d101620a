"""Marking: run every returned notebook in a fresh kernel and note what `check` answered.

It runs what students wrote, with your rights: do it in a container (chapters/serving.md says
how). A student who wants to can forge a mark from within; this is homework, not an exam.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import json
import logging
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from course_lib.errors import check_count, course_error
from course_lib.exercises.checker import Verdict

__all__ = ["mark"]

COLUMNS = ("who", "n_right", "n_tried", "right", "tried", "hints", "errors")
MOST_BYTES = 20_000_000  # a larger file is not opened; the chapters stay below 2 MB
MOST_ERRORS, LONGEST = 3, 120  # errors of a notebook that are told, and letters of each
SECONDS_TO_WAKE = 10  # for a kernel that was interrupted
FORMULA = ("=", "+", "-", "@")  # a spreadsheet would compute a text that begins so


def mark(
    folder: str | Path,
    table: str | Path,
    cell_seconds: int = 120,
    notebook_seconds: int = 900,
) -> pd.DataFrame:
    """Run the returned notebooks in a folder and tabulate what was answered.

    Every file below the folder gets a row, also one that is no notebook. A notebook is run
    from top to bottom in a fresh kernel, in an empty directory; after an error it goes on with
    the next cell. Run it in a container: it executes what students wrote.

    Parameters
    ----------
    folder : str or Path
        Holds the returned files, at any depth.
    table : str or Path
        The CSV file to write, row by row; it must not exist yet.
    cell_seconds : int
        A cell that takes longer is interrupted.
    notebook_seconds : int
        A notebook that takes longer is stopped.

    Returns
    -------
    DataFrame
        One row per file: ``who`` (its name), ``n_right`` and ``n_tried``, the ids of the
        exercises ``right`` and ``tried``, the ``hints`` met and the ``errors``.

    Raises
    ------
    CourseError
        If there is no such folder, nothing in it, or already a table.

    Examples
    --------
    >>> mark("no/such/folder", "marks.csv")
    Traceback (most recent call last):
    ...
    course_lib.errors.CourseError: folder: must be a folder with returned files; got ...

    See Also
    --------
    course_lib.exercises.check : Whose answers are noted.
    course_lib.exercises.handout.hand_out : Write the course that students get.
    """
    import nbclient  # noqa: F401  comes with JupyterLab; if it is missing, say so at once
    from tqdm import tqdm

    cell_seconds = check_count("cell_seconds", cell_seconds)
    notebook_seconds = check_count("notebook_seconds", notebook_seconds)
    files = returned_files(folder)
    rows = []
    with new_table(table) as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for path in tqdm(files, desc="marking", unit="file"):
            who = plain(path.relative_to(folder).as_posix())
            row = (who, *marks_of(path, cell_seconds, notebook_seconds))
            writer.writerow(
                [f"'{cell}" if str(cell).startswith(FORMULA) else cell for cell in row]
            )
            file.flush()  # what is marked is kept if the rest is broken off
            rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def returned_files(folder: str | Path) -> list[Path]:
    """Return what lies below the folder, in order, without hidden files."""
    advice = "Put the returned notebooks into one folder and give its name."
    rule = "must be a folder with returned files"
    if not isinstance(folder, str | Path) or not Path(folder).is_dir():
        raise course_error("folder", rule, f"{folder!r:.200}, which is none", advice)
    files = [
        path
        for path in sorted(Path(folder).rglob("*"))
        if not path.is_dir()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not files:
        raise course_error("folder", rule, f"'{folder}' without any file", advice)
    return files


def new_table(table: str | Path):
    """Open a new CSV file, with the mark by which spreadsheets know UTF-8."""
    try:
        return Path(table).open("x", encoding="utf-8-sig", newline="")
    except (OSError, TypeError, ValueError) as error:
        rule, advice = "must be a new file in a folder that exists", "Give another name."
        raise course_error("table", rule, f"{table!r:.200} ({error})", advice) from None


def marks_of(path: Path, cell_seconds: int, notebook_seconds: int) -> tuple:
    """Return a file's columns but for its name, whatever the file does."""
    verdicts, errors = [], []
    try:
        notebook = read_notebook(path)
    except Exception as error:  # text, a PDF, a broken upload: anything may have been returned
        errors.append(f"not a notebook: {error}")
    else:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as empty:
            log = Path(empty, "verdicts")
            try:
                for error in run(notebook, Path(empty), log, cell_seconds, notebook_seconds):
                    errors.append(error)
            except Exception as error:  # one notebook never stops the others
                errors.append(f"stopped: {type(error).__name__}: {error}")
            try:
                verdicts = read_verdicts(log)
            except Exception as error:  # it was overwritten from within
                errors.append(f"no verdicts: {error}")
    return (*summary(verdicts), told(errors))


def read_notebook(path: Path):
    """Read a notebook of any name and version; raise if the file is something else."""
    import nbformat

    if path.is_symlink() or not path.is_file():
        raise ValueError("a link or no plain file")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES // 1_000_000} MB")
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(content, dict) or "nbformat" not in content:
        raise ValueError("JSON, but of another kind")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cells without ids and the like do no harm
        return nbformat.reads(json.dumps(content), as_version=4)


def run(
    notebook, folder: Path, log: Path, cell_seconds: int, notebook_seconds: int
) -> Iterator[str]:
    """Run a notebook in a fresh kernel that logs the verdicts; yield what went wrong."""
    import nbformat
    from jupyter_core.utils import run_sync
    from nbclient import NotebookClient
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    class QuietClient(NotebookClient):
        """Forgets what cells print: only the verdicts are wanted, and memory is finite."""

        def process_message(self, msg, cell, cell_index):
            if msg["msg_type"] == "status":
                super().process_message(msg, cell, cell_index)

    failed = []

    def note_error(cell, cell_index, execute_reply):
        content = execute_reply["content"]
        if "raises-exception" not in cell.metadata.get("tags", []):  # the chapter's own
            failed.append(f"{content.get('ename')}: {content.get('evalue')}")

    source = f"__import__('importlib').import_module({__name__!r}).log_verdicts({str(log)!r})"
    code = [nbformat.v4.new_code_cell(source)]
    code += [cell for cell in notebook.cells if cell.cell_type == "code"]
    notebook.cells = code
    end = time.monotonic() + notebook_seconds
    quiet = logging.getLogger(__name__)
    quiet.setLevel(logging.CRITICAL)
    client = QuietClient(
        notebook,
        kernel_name="python3",
        allow_errors=True,
        shutdown_kernel="immediate",
        timeout_func=lambda cell: max(1, min(cell_seconds, int(end - time.monotonic()))),
        on_cell_error=note_error,
        log=quiet,
    )
    nowhere = subprocess.DEVNULL  # what a crash prints
    with client.setup_kernel(cwd=str(folder), stdout=nowhere, stderr=nowhere):
        for number, cell in enumerate(code):
            if time.monotonic() >= end:
                yield f"stopped at cell [{number}]: the notebook took over {notebook_seconds} s"
                return
            try:
                client.execute_cell(cell, number)
            except DeadKernelError:
                yield f"stopped at cell [{number}]: it ended the kernel"
                return
            except CellTimeoutError:
                yield f"cell [{number}]: interrupted, it took too long"
                run_sync(client.km.interrupt_kernel)()
                try:
                    run_sync(client.kc.wait_for_ready)(timeout=SECONDS_TO_WAKE)
                except RuntimeError:
                    yield f"stopped at cell [{number}]: it cannot be interrupted"
                    return
            yield from (f"cell [{number}]: {error}" for error in failed)
            failed.clear()


def log_verdicts(path: str) -> None:
    """Append to a file, from now on, each new verdict of `check` in this kernel."""
    session = importlib.import_module("course_lib.exercises.progress")
    record, seen = session.record, set()

    def record_and_log(verdict: Verdict) -> None:
        record(verdict)
        if verdict not in seen:  # a loop around `check` fills no disk
            seen.add(verdict)
            line = json.dumps([verdict.exercise, verdict.correct, verdict.message])
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")

    session.record = record_and_log


def read_verdicts(log: Path) -> list[Verdict]:
    """Read what a kernel has logged; a line that was cut off by its death is left out."""
    verdicts = []
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            verdicts.append(Verdict(*json.loads(line)))
    return verdicts


def summary(verdicts: list[Verdict]) -> tuple[int, int, str, str, str]:
    """Return the numbers and ids of exercises right and tried, and the hints, by exercise."""
    tried = [v for v in verdicts if v.correct is not None]
    ids = [
        in_order({v.exercise for v in tried if v.correct}),
        in_order(v.exercise for v in tried),
    ]
    hints = [
        f"{v.exercise}: {v.message.removeprefix('Not yet: ')}" for v in tried if not v.correct
    ]
    return (*map(len, ids), *map(" ".join, ids), plain(" | ".join(hints)))


def in_order(ids: Iterable[str]) -> list[str]:
    """Return each id once, 2.10 after 2.9."""
    return sorted(set(ids), key=lambda name: [int(part) for part in name.split(".")])


def told(errors: list[str]) -> str:
    """Join the first errors, each on one line and not too long."""
    shown = [f"{plain(error):.{LONGEST}}" for error in errors[:MOST_ERRORS]]
    more = len(errors) - len(shown)
    return " | ".join([*shown, *([f"and {more} more"] if more else [])])


def plain(text: str) -> str:
    """Return text on one line that any file can hold."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
