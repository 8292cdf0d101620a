"""The one command: which Python, which environment, and the learner's own copy."""

import ast
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from browser import chromium, listen
from lab import jupyterlab
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
START = ROOT / "start.py"
WORDS = ["lab", "test", "book", "slides", "handouts", "pdf", "epub"]
CHAPTER = "01_random_slopes_in_five_steps.ipynb"


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Import start.py as a module whose environment lies in a folder of the test."""
    spec = importlib.util.spec_from_file_location("start", START)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "VENV", tmp_path / "venv")
    monkeypatch.setattr(module, "PYTHON", tmp_path / "venv" / "bin" / "python")
    return module


# Which Python.


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 6, 15), (3, 10, 13)])
def test_an_older_python_is_turned_away_in_one_sentence(version, tmp_path):
    copy = tmp_path / "start.py"
    copy.write_bytes(START.read_bytes())
    code = f"import sys; sys.version_info = {version}; import runpy; runpy.run_path('start.py')"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1
    this = f"{version[0]}.{version[1]}"
    assert f"needs Python 3.11 or newer, and this is Python {this}:" in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["start.py"]


def test_older_pythons_can_read_why_they_are_turned_away():
    """No grammar that came after Python 2.7: it would be an error in place of a sentence."""
    source = START.read_text(encoding="ascii")
    for node in ast.walk(ast.parse(source, feature_version=(3, 4))):
        assert not isinstance(
            node, ast.JoinedStr | ast.NamedExpr | ast.AnnAssign | ast.Nonlocal
        )
        if isinstance(node, ast.FunctionDef):
            assert node.returns is None
            assert node.args.kwonlyargs == []
        if isinstance(node, ast.List | ast.Tuple | ast.Dict):
            assert not any(isinstance(part, ast.Starred) for part in ast.iter_child_nodes(node))
        assert not isinstance(node, ast.Name) or node.id != "print"  # a statement there


def test_needed_python_is_that_of_the_project(start):
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'requires-python = ">={}.{}"'.format(*start.NEEDED) in text


# The environment.


@pytest.mark.thorough  # makes a real environment
def test_half_made_environment_is_made_anew(start, capsys):
    start.PYTHON.parent.mkdir(parents=True)
    start.PYTHON.write_text("no program")
    start.PYTHON.chmod(0o755)
    start.make_environment()
    assert "Making an environment" in capsys.readouterr().out
    assert subprocess.run([start.PYTHON, "-m", "pip", "--version"], check=True).returncode == 0
    start.make_environment()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("text", [None, "no program", "#!/bin/sh\nexit 1\n", "#!/bin/sh\n"])
def test_environment_is_made_unless_there_is_one_that_works(start, monkeypatch, text):
    if text:
        start.PYTHON.parent.mkdir(parents=True)
        start.PYTHON.write_text(text)
        start.PYTHON.chmod(0o755)
    made = []
    done = subprocess.CompletedProcess([], 0)
    monkeypatch.setattr(
        start.subprocess, "run", lambda command, **options: made.append(command) or done
    )
    start.make_environment()
    wanted = [[sys.executable, "-m", "venv", "--clear", str(start.VENV)]]
    assert made == ([] if text == "#!/bin/sh\n" else wanted)


def test_failure_to_make_an_environment_leaves_none(start, monkeypatch):
    def without_pip(command, **options):
        (start.VENV / "bin").mkdir(parents=True)
        return subprocess.CompletedProcess(command, 1, b"ensurepip is not available")

    monkeypatch.setattr(start.subprocess, "run", without_pip)
    with pytest.raises(
        SystemExit, match="ensurepip is not available\n\n.*apt install python3-venv"
    ):
        start.make_environment()
    assert not start.VENV.exists()


def test_installs_once_per_state_of_the_pins(start, monkeypatch):
    start.VENV.mkdir()
    asked, answers = [], [1, 0]
    monkeypatch.setattr(
        start.subprocess, "call", lambda command, cwd: asked.append(command) or answers.pop(0)
    )
    with pytest.raises(SystemExit, match="stopped"):
        start.install("lab")
    start.install("lab")
    start.install("lab")  # needs no network
    assert len(asked) == 2
    assert asked[0][-4:] == ["-c", "constraints.txt", "-e", ".[lab]"]
    monkeypatch.setattr(start, "ROOT", copy_of_root(start))
    answers.append(0)
    start.install("lab")
    assert len(asked) == 3


def copy_of_root(start):
    """Return a folder with the two files that say what to install."""
    folder = start.VENV.parent / "moved"
    folder.mkdir()
    for name in ("pyproject.toml", "constraints.txt"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


@pytest.mark.parametrize("word", WORDS)
def test_every_word_is_told_and_runs_what_exists(start, monkeypatch, word, tmp_path):
    became = []
    monkeypatch.setattr(start, "make_environment", lambda: None)
    monkeypatch.setattr(start, "install", became.append)
    monkeypatch.setattr(start, "COURSE", tmp_path / "my_course")
    monkeypatch.setattr(start.os, "name", "posix")
    monkeypatch.setattr(start.os, "chdir", became.append)
    monkeypatch.setattr(start.os, "execv", lambda file, command: became.append(command))
    start.main([word, "--more"])
    assert set(start.WORDS) == set(WORDS)
    extra, folder, command = became
    assert f"{extra} = [" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert folder == str(ROOT)
    assert command[0] == str(start.PYTHON)
    assert "--more" in command
    assert word == "lab" or f"python3 start.py {word} " in start.__doc__
    files = [part for part in command if part.startswith("chapters/")]
    assert [file for file in files if not (ROOT / file).exists()] == []
    assert (command[1] == "-m") == (not command[1].endswith(".py"))


def test_unknown_word_is_an_error(start):
    with pytest.raises(SystemExit, match="does not know 'labb'"):
        start.main(["labb"])
    with pytest.raises(SystemExit, match="The one command"):
        start.main(["--help"])


# The learner's own copy.


@pytest.fixture
def course(start, tmp_path):
    """Return (source, target, update) of a small course."""
    source, target = tmp_path / "chapters", tmp_path / "my_course"
    for name in ("01_a.ipynb", "solutions/01_a.ipynb", "deeper/01_b.ipynb", "glossary.md"):
        write(source / name, f"{name} v1")
    for name in ("_book/conf.py", ".ruff.toml", "index.md", ".ipynb_checkpoints/01_a.ipynb"):
        write(source / name, "not for learners")
    return source, target, lambda: start.copy_course(source, target)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def texts(folder):
    """Return {name: text} of the files that a learner sees."""
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name[0] != "."
    }


FRESH = {
    name: f"{name} v1"
    for name in ("01_a.ipynb", "deeper/01_b.ipynb", "glossary.md", "solutions/01_a.ipynb")
} | {"my_answers.json": "{}\n"}


def test_first_start_copies_what_a_learner_reads(course):
    _, target, update = course
    assert update() == ["Your copy of the course is the folder my_course."]
    assert texts(target) == FRESH
    assert update() == []


def test_what_the_learner_wrote_stays(course):
    _, target, update = course
    update()
    mine = {"01_a.ipynb": "mine", "my_answers.json": '{"1.1": 1}', "notes.txt": "mine"}
    for name, text in mine.items():
        write(target / name, text)
    assert update() == []
    assert texts(target) == FRESH | mine


def test_new_version_comes_beside_the_learners_own_and_is_said_once(course):
    source, target, update = course
    update()
    write(target / "01_a.ipynb", "mine")
    write(source / "01_a.ipynb", "v2")
    said = "A new version of 01_a.ipynb in my_course: yours stays, the new one is "
    assert update() == [said + "01_a (2).ipynb beside it."]
    assert texts(target) == FRESH | {"01_a.ipynb": "mine", "01_a (2).ipynb": "v2"}
    (target / "01_a (2).ipynb").unlink()  # not wanted: it does not come back
    assert update() == []
    write(source / "01_a.ipynb", "v3")
    assert update() == [said + "01_a (2).ipynb beside it."]
    write(source / "01_a.ipynb", "v4")  # v3 was not touched
    assert update() == ["Renewed in my_course, as you had not changed them: 01_a (2).ipynb."]
    write(target / "01_a (2).ipynb", "mine too")
    write(source / "01_a.ipynb", "v5")
    assert update() == [said + "01_a (3).ipynb beside it."]
    mine = {"01_a.ipynb": "mine", "01_a (2).ipynb": "mine too", "01_a (3).ipynb": "v5"}
    assert texts(target) == FRESH | mine


def test_what_was_not_changed_is_renewed_in_place(course):
    source, target, update = course
    update()
    for name in ("01_a.ipynb", "glossary.md"):
        write(source / name, "v2")
    write(source / "02_c.ipynb", "v1")
    assert update() == ["Renewed in my_course, as you had not changed them: 2 files."]
    new = {"01_a.ipynb": "v2", "glossary.md": "v2", "02_c.ipynb": "v1"}
    assert texts(target) == FRESH | new


def test_a_file_thrown_away_comes_fresh(course):
    _, target, update = course
    update()
    (target / "01_a.ipynb").unlink()
    assert update() == []
    assert texts(target) == FRESH


@pytest.mark.parametrize("damage", [None, "", "{", "[]"])
def test_without_its_record_nothing_is_overwritten(course, damage):
    source, target, update = course
    update()
    write(target / "01_a.ipynb", "mine")
    if damage is None:
        (target / ".delivered.json").unlink()
    else:
        write(target / ".delivered.json", damage)
    assert len(update()) == 1
    assert texts(target) == FRESH | {"01_a.ipynb": "mine", "01_a (2).ipynb": "01_a.ipynb v1"}
    assert update() == []


def test_a_copy_that_was_interrupted_goes_on(course, start, monkeypatch):
    _, target, update = course
    put = start.put

    def stop(path, new):
        if new.name == "glossary.md":
            raise KeyboardInterrupt
        put(path, new)

    monkeypatch.setattr(start, "put", stop)
    with pytest.raises(KeyboardInterrupt):
        update()
    monkeypatch.setattr(start, "put", put)
    assert update() == []
    assert texts(target) == FRESH
    assert list(target.rglob("*.part")) == []


def test_the_real_course_is_copied_and_its_links_hold(start, tmp_path):
    target = tmp_path / "my_course"
    start.copy_course(ROOT / "chapters", target)
    there = {path.relative_to(target).as_posix() for path in target.rglob("*.ipynb")}
    wanted = {
        path.relative_to(ROOT / "chapters").as_posix()
        for pattern in ("*.ipynb", "deeper/*.ipynb", "solutions/*.ipynb")
        for path in (ROOT / "chapters").glob(pattern)
    }
    assert wanted
    assert there == wanted
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "my_course/" in ignored
    assert start.COURSE.parent == ROOT  # so that ../README.md and ../data are where they were
    for path in target.glob("*.ipynb"):
        assert "](index.md" not in path.read_text(encoding="utf-8")


def test_score_is_kept_where_start_puts_its_file(start):
    import course_lib.exercises

    assert course_lib.exercises
    assert sys.modules["course_lib.exercises.progress"].ANSWERS == start.ANSWERS


def test_jupyterlab_opens_chapter_1_of_the_copy_and_fetches_no_news(
    start, monkeypatch, tmp_path
):
    monkeypatch.setattr(start, "COURSE", tmp_path / "my_course")
    start.copy_course(ROOT / "chapters", start.COURSE)
    options = start.lab_options()
    assert f"--ServerApp.root_dir={start.COURSE}" in options
    assert f"--LabApp.default_url=/lab/tree/{CHAPTER}" in options
    overrides = start.VENV / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    assert json.loads(overrides.read_text(encoding="utf-8")) == start.NO_NEWS


@pytest.mark.thorough  # starts JupyterLab, and waits for it by the clock
def test_jupyterlab_shows_chapter_1_and_no_pop_up(start, monkeypatch, tmp_path):
    monkeypatch.setattr(start, "COURSE", tmp_path / "my_course")
    start.copy_course(ROOT / "chapters", start.COURSE)
    options = start.lab_options()
    # start.py writes into the environment that JupyterLab runs in; this test's is another one.
    options.append(f"--LabApp.app_settings_dir={start.VENV}/share/jupyter/lab/settings")
    with jupyterlab(tmp_path, options) as address, chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        complaints = listen(page)
        page.goto(address)
        page.get_by_role("tab", name=CHAPTER).wait_for(timeout=60_000)
        page.get_by_role("heading", name="Chapter 1. Random slopes").wait_for(timeout=60_000)
        page.wait_for_timeout(8000)  # the pop-up came after some seconds
        assert page.locator(".Toastify__toast").all_inner_texts() == []
        assert page.locator(".jp-Dialog").all_inner_texts() == []
        assert page.locator(".jp-DirListing-item", has_text="glossary.md").count() == 1
        assert [told for told in complaints if "outside" in told] == []


@pytest.mark.thorough  # starts two kernels
def test_an_answer_in_the_copy_is_there_after_a_restart(start, tmp_path):
    folder = tmp_path / "my_course"
    start.copy_course(ROOT / "chapters", folder)
    first = 'from course_lib.exercises import check, progress\ncheck("1.1", 1.0)'
    again = "from course_lib.exercises import progress\nprogress().head(2)"
    shown = []
    for source in (first, again):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}).execute()
        shown.append(notebook.cells[0].outputs[0]["data"]["text/plain"])
    assert shown[0].startswith("Not yet: ")
    assert re.findall(r"1\.\d .+", shown[1]) == [
        "1.1       not yet      1",
        "1.2  not answered      0",
    ]
