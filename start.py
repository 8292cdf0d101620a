"""The one command of the course; `python3 start.py` opens it in JupyterLab.

    python3 start.py            your own copy of the course, in the folder my_course
    python3 start.py test       all tests
    python3 start.py book       the book: build/book/index.html
    python3 start.py slides     the slides: build/slides/index.html
    python3 start.py handouts   every page as one file to hand out: build/handouts
    python3 start.py pdf        the whole course for printing: build/course.pdf
    python3 start.py epub       the whole course for a reader of e-books: build/course.epub

The first time it makes an environment in .venv and installs what the word needs; later it
needs no network. What follows is handed on: `python3 start.py --no-browser`.
"""

# Older Pythons must be able to read this file, as it turns them away: their grammar only.
import sys

NEEDED = (3, 11)
if sys.version_info < NEEDED:
    sys.exit(
        "The course needs Python {}.{} or newer, and this is Python {}.{}: "
        "install a newer one, and begin the line with its name, for example python3.13.".format(
            *(NEEDED + tuple(sys.version_info[:2]))
        )
    )

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
COURSE = ROOT / "my_course"
ANSWERS = "my_answers.json"  # where it is, `check` keeps the score (course_lib.exercises)
NOT_COPIED = ("_book", "index.md")  # how the book is built, and its first page
BOOK = "sphinx -W --keep-going -q -c chapters/_book chapters build/book"
# What each word installs (an extra of pyproject.toml) and runs (a module or a file).
WORDS = {
    "lab": ("lab", "jupyterlab"),
    "test": ("test", "pytest"),
    "book": ("book", BOOK),
    "slides": ("book", "chapters/_book/slides.py"),
    "handouts": ("book", "chapters/_book/editions.py handouts"),
    "pdf": ("pdf", "chapters/_book/editions.py pdf"),
    "epub": ("book", "chapters/_book/editions.py epub"),
}
# JupyterLab asks at its first start whether it may fetch news; this says no, in this .venv.
NO_NEWS = {
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
    }
}


def main(arguments):
    """Install what the first word needs, then become the program that it names."""
    if arguments[:1] in (["-h"], ["--help"]):
        sys.exit(__doc__)
    word = arguments.pop(0) if arguments and arguments[0][0] != "-" else "lab"
    if word not in WORDS:
        sys.exit("start.py does not know '{}'.\n\n{}".format(word, __doc__))
    extra, program = WORDS[word]
    make_environment()
    install(extra)
    command = [str(PYTHON)] + ([] if ".py" in program else ["-m"]) + program.split() + arguments
    if word == "lab":
        for line in copy_course(ROOT / "chapters", COURSE):
            say(line)
        command += lab_options()
    os.chdir(str(ROOT))
    if os.name == "nt":  # there a program cannot become another one
        sys.exit(subprocess.call(command))
    os.execv(command[0], command)


def make_environment():
    """Make .venv, also where one was left half-made or belongs to an older Python."""
    works = "import pip, sys; sys.exit(sys.version_info < {})".format(NEEDED)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        if subprocess.call([str(PYTHON), "-c", works], **quiet) == 0:
            return
    except OSError:  # there is none, or it is no program
        pass
    say("Making an environment for the course in .venv ...")
    made = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    run = subprocess.run(made, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if run.returncode:
        shutil.rmtree(str(VENV), ignore_errors=True)
        said = run.stdout.decode(errors="replace").strip()
        sys.exit(
            "{}\n\nPython could not make the folder .venv. On Debian and Ubuntu "
            "`apt install python3-venv` helps; then start again.".format(said)
        )


def install(extra):
    """Install the course with an extra at the tested versions, unless that has been done."""
    asked = [ROOT / "pyproject.toml", ROOT / "constraints.txt"]
    state = hashlib.sha256(b"".join(path.read_bytes() for path in asked))
    state.update(str(ROOT).encode())  # a folder that was moved is installed again
    stamp = VENV / "installed-{}".format(extra)
    if stamp.exists() and stamp.read_text() == state.hexdigest():
        return
    say("Installing the course (the first time this takes a few minutes) ...")
    pip = [str(PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    pip += ["-c", "constraints.txt", "-e", ".[{}]".format(extra)]
    if subprocess.call(pip, cwd=str(ROOT)):
        sys.exit("The installation stopped: see above. Start again; it goes on where it was.")
    stamp.write_text(state.hexdigest())


def copy_course(source, target):
    """Bring the learner's copy up to date without touching what the learner has changed.

    A file is copied where there is none. If its original has changed since, a copy that is
    still as it was delivered is replaced; beside any other one the new version is put under
    the next free name, once. `target` keeps in a hidden file what was delivered.

    Returns
    -------
    list of str
        What was done, as sentences.
    """
    record = target / ".delivered.json"
    try:
        delivered = dict(json.loads(record.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        delivered = {}
    first, renewed, beside = not target.exists(), [], []
    for path in sorted(source.rglob("*")):
        parts = path.relative_to(source).parts
        hidden = any(part.startswith(".") for part in parts)
        if hidden or parts[0] in NOT_COPIED or not path.is_file():
            continue
        name, version = "/".join(parts), checksum(path)
        there, (last, last_name) = checksum(target / name), delivered.get(name, (None, name))
        if there == version:
            last_name = name
        elif there is None:  # new, or thrown away for a fresh copy
            last_name = name
            put(path, target / name)
        elif last == version:  # the learner's own by now
            continue
        elif last and checksum(target / last_name) == last:
            put(path, target / last_name)
            renewed.append(last_name)
        else:
            last_name = next_free(target, name)
            put(path, target / last_name)
            beside.append((name, last_name))
        delivered[name] = version, last_name
    target.mkdir(exist_ok=True)
    if not (target / ANSWERS).exists():
        (target / ANSWERS).write_text("{}\n", encoding="utf-8")
    record.write_text(json.dumps(delivered, indent=1), encoding="utf-8")
    return told(target.name, first, renewed, beside)


def told(folder, first, renewed, beside):
    """Return what was done to the learner's copy, as sentences."""
    lines = []
    if first:
        lines.append("Your copy of the course is the folder {}.".format(folder))
    if renewed:
        files = renewed[0] if len(renewed) == 1 else "{} files".format(len(renewed))
        lines.append("Renewed in {}, as you had not changed them: {}.".format(folder, files))
    for name, new in beside:
        line = "A new version of {1} in {0}: yours stays, the new one is {2} beside it."
        lines.append(line.format(folder, name, new.split("/")[-1]))
    return lines


def checksum(path):
    """Return the sha256 of a file, or None where there is no file."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def next_free(folder, name):
    """Return the first of "name (2).ipynb", "name (3).ipynb" and so on that is free."""
    stem, suffix = os.path.splitext(name)
    number = 2
    while (folder / "{} ({}){}".format(stem, number, suffix)).exists():
        number += 1
    return "{} ({}){}".format(stem, number, suffix)


def put(path, new):
    """Copy a file so that it is there as a whole or not at all."""
    new.parent.mkdir(parents=True, exist_ok=True)
    half = new.with_name(".{}.part".format(new.name))
    shutil.copyfile(str(path), str(half))
    os.replace(str(half), str(new))


def lab_options():
    """Return the options of JupyterLab: the learner's folder, open on chapter 1, no news."""
    settings = VENV / "share" / "jupyter" / "lab" / "settings"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "overrides.json").write_text(json.dumps(NO_NEWS, indent=1))
    chapter = min(path.name for path in COURSE.glob("0*.ipynb"))
    options = ["--ServerApp.root_dir={}".format(COURSE)]
    options.append("--LabApp.default_url=/lab/tree/{}".format(chapter))
    return options + ["--allow-root"]  # the last only matters to root, as in a container


def say(text):
    """Show a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
