"""For lecturers: ``python -m course_lib.exercises mark FOLDER`` and ``… handout FOLDER``."""

from __future__ import annotations

import argparse
import sys

from course_lib.errors import CourseError
from course_lib.exercises.handout import hand_out
from course_lib.exercises.marking import mark


def main(arguments: list[str] | None = None) -> int:
    """Run one of the two commands; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m course_lib.exercises")
    commands = parser.add_subparsers(dest="command", required=True)
    marking = commands.add_parser("mark", help="run returned notebooks; use a container")
    marking.add_argument("folder", help="holds the returned notebooks")
    marking.add_argument("--table", default="marks.csv", help="the CSV file to write")
    marking.add_argument("--cell-seconds", type=int, default=120)
    marking.add_argument("--notebook-seconds", type=int, default=900)
    handing = commands.add_parser("handout", help="write the course without solutions")
    handing.add_argument("folder", help="the new folder")
    given = parser.parse_args(arguments)
    try:
        if given.command == "mark":
            seconds = (given.cell_seconds, given.notebook_seconds)
            marks = mark(given.folder, given.table, *seconds)
            shown = marks.drop(columns=["hints", "errors"]).to_string(index=False)
            n_errors = int((marks["errors"] != "").sum())
            sys.stdout.write(f"{shown}\n{n_errors} of {len(marks)} with errors. ")
            sys.stdout.write(f"Hints and errors: {given.table}\n")
        else:
            n_notes = hand_out(given.folder)
            sys.stdout.write(f"{given.folder}: the course without solutions and without ")
            sys.stdout.write(f"{n_notes} notes for lecturers\n")
    except CourseError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
