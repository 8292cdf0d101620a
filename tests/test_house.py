"""The files around the course: README, constraints, environment and CI say the same thing."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN = re.sub(r"<!--.*?-->", "", README, flags=re.S)
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="ascii").splitlines()
PINS = [line for line in CONSTRAINTS if line and not line.startswith("#")]


def command(marker):
    """Return the one line of the README's block after that marker."""
    return re.search(rf"<!-- {marker} -->\n```bash\n([^\n]+)\n```\n", README)[1]


def plain(name):
    """Return the normalised name of a distribution."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.skipif(shutil.which("bash") is None, reason="CI runs on Linux")
def test_ci_runs_the_test_command_of_the_readme(tmp_path):
    run = subprocess.run(
        ["bash", str(ROOT / ".ci" / "run"), "--show"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == command("test-command") + "\n"


@pytest.mark.skipif(
    not (shutil.which("git") and shutil.which("bash")), reason="needs git, bash"
)
def test_ci_runs_in_a_checkout_by_a_git_that_writes_crlf(tmp_path):
    def git(*arguments):
        options = ["-c", "core.autocrlf=true", "-c", "core.eol=crlf", "-c", "user.name=a"]
        command = ["git", *options, "-c", "user.email=a@b.c", *arguments]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    files = [".gitattributes", ".ci/run", "README.md", "notes.txt"]
    (tmp_path / ".ci").mkdir()
    for name in files[:3]:
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "notes.txt").write_bytes(b"one\ntwo\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "all")
    for name in files:
        (tmp_path / name).unlink()
    git("checkout", "--", ".")
    assert [name for name in files if b"\r" in (tmp_path / name).read_bytes()] == []
    shown = subprocess.run(
        ["bash", ".ci/run", "--show"], cwd=tmp_path, capture_output=True, text=True
    )
    assert shown.stdout == command("test-command") + "\n", shown.stderr


def test_commands_are_words_of_start():
    assert command("start-command") == "python3 start.py"
    assert command("test-command") == "python3 start.py test"
    start = (ROOT / "start.py").read_text(encoding="ascii")
    for word in re.findall(r"<!-- (\w+)-command -->", README):
        assert word == "start" or f'    "{word}": (' in start
        assert command(f"{word}-command").split()[:2] == ["python3", "start.py"]


def test_conda_installs_the_pinned_set():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert "      - -c constraints.txt\n      - -e .[test]\n" in text


def test_constraints_are_names_and_versions_only():
    marker = r"python_version (<|>=) \"3\.\d+\"|python_full_version (<|>=) \"3\.\d+\.\d+\""
    assert [
        line for line in PINS if not re.fullmatch(rf"[\w.-]+==[\w.+!]+( ; ({marker}))?", line)
    ] == []


def test_each_name_is_pinned_once_for_each_python():
    markers = {}
    for line in PINS:
        pin, _, marker = line.partition(" ; ")
        markers.setdefault(plain(pin.split("==")[0]), []).append(marker)
    # Two pins of one name part the versions of Python at one place.
    for name, found in markers.items():
        older = [marker for marker in found if " < " in marker]
        assert sorted(found) in (
            [""],
            sorted(older + [marker.replace(" < ", " >= ") for marker in older[:1]]),
        ), name
        assert len(older) <= 1, name


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = project["dependencies"] + extras["test"] + extras["book"] + extras["dev"]
    names = {plain(re.match(r"[\w.-]+", requirement)[0]) for requirement in asked}
    assert names - {"course-lib"} - {plain(line.split("==")[0]) for line in PINS} == set()


def test_links_of_the_readme_lead_to_files():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", SHOWN)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_four_users_find_their_first_step_in_a_screenful():
    screenful = SHOWN.split("![Six people")[0]
    assert len(re.sub(r"\]\([^)]+\)|<[^>]+>", "", screenful)) < 1800  # characters that are read
    for user, step in {
        "learn alone": "`python3 start.py`",
        "come from lme4": "(chapters/glossary.md#from-lme4)",
        "teach": "(chapters/teaching.md)",
        "keep it running": "`python3 start.py test`",
    }.items():
        (row,) = re.findall(rf"^\| \*\*{user}\*\*.*$", screenful, re.M)
        assert step in row
    headings = {
        re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-")
        for line in re.findall(r"^#+ (.+)$", README, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= headings


def test_every_word_of_start_has_its_line_in_the_readme():
    start = (ROOT / "start.py").read_text(encoding="ascii")
    words = set(re.findall(r'^    "(\w+)": \("', start, re.M)) - {"lab"}
    assert {"test", "book", "pdf"} <= words
    for word in words:
        assert command(f"{word}-command") == f"python3 start.py {word}"


def test_chapter_table_has_every_chapter_and_its_minutes():
    rows = re.findall(
        r"^\| (\d) \[[^]]+\]\(chapters/(\d\d_\w+)\.ipynb\).* (\d+) \+ (\d+) \|$", SHOWN, re.M
    )
    assert [row[1] for row in rows] == sorted(
        path.stem
        for path in (ROOT / "chapters").glob("*.ipynb")
        if re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem)  # a learner's copy has another name
    )
    for number, name, read, exercise in rows:
        assert name.startswith(f"0{number}_")
        text = (ROOT / "chapters" / f"{name}.ipynb").read_text(encoding="utf-8")
        assert f"{read} minutes to read and {exercise} minutes to exercise" in text, name


def test_book_and_slides_are_built_as_the_workflow_builds_them():
    workflow = (ROOT / ".github" / "workflows" / "book.yml").read_text(encoding="utf-8")
    start = (ROOT / "start.py").read_text(encoding="ascii")
    for build in (
        "sphinx -W --keep-going -q -c chapters/_book chapters build/book",
        "chapters/_book/slides.py",
    ):
        assert build in start
        assert build in workflow


def test_contributing_says_where_each_workflow_job_runs():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    folder = ROOT / ".github" / "workflows"
    for path in folder.glob("*.yml"):
        assert f"| `{path.stem}`" in text
    jobs = re.findall(r"^  (\w+):$", (folder / "ci.yml").read_text(encoding="utf-8"), re.M)
    assert {"strict", "pins", "lowest", "lint"} <= set(jobs)
    for job in set(jobs) - {"push", "pull_request", "strict"}:
        assert f"| `ci`, job `{job}` |" in text


def test_badges_are_true():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">=3.11"
    assert "badge/python-3.11%2B-" in README
    workflow = re.search(r"actions/workflows/(\w+\.yml)/badge\.svg", README)[1]
    assert (ROOT / ".github" / "workflows" / workflow).exists()
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "MIT License" in licence
    assert "CC BY 4.0" in licence or "Attribution 4.0" in licence
