"""The workflows and hooks for others: they parse, and name what exists in this repository."""

import re
import tomllib
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))
}
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def commands(workflow):
    return "\n".join(step.get("run", "") for step in steps(workflow))


def test_workflows_are_those_that_are_known():
    assert set(WORKFLOWS) == {"ci", "newest", "book", "thorough"}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_are_named_with_a_version(name):
    used = [step["uses"] for step in steps(WORKFLOWS[name]) if "uses" in step]
    assert used
    assert [use for use in used if not re.fullmatch(r"[\w-]+/[\w-]+@v\d+", use)] == []


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_ask_for_no_more_rights_than_they_need(name):
    rights = WORKFLOWS[name]["permissions"]
    extra = {"pages": "write", "id-token": "write"} if name == "book" else {}
    assert rights == {"contents": "read", **extra}


def test_strict_run_is_the_readme_s_command():
    assert (
        commands({"jobs": {"strict": WORKFLOWS["ci"]["jobs"]["strict"]}}).strip()
        == "bash .ci/run"
    )


def test_pins_are_resolved_for_the_pythons_of_the_thorough_test():
    told = commands({"jobs": {"pins": WORKFLOWS["ci"]["jobs"]["pins"]}})
    tested = re.search(r'"python", \[(.+?)\]', (ROOT / "tests/test_pins.py").read_text())[1]
    assert f"for python in {tested.replace(',', '').replace(chr(34), '')}; do" in told


def test_lower_bounds_are_tried():
    told = commands({"jobs": {"lowest": WORKFLOWS["ci"]["jobs"]["lowest"]}})
    assert '--resolution lowest-direct -e ".[test]"' in told
    assert 'python -m pytest -W default tests -m "not slow"' in told
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = project["dependencies"] + sum(project["optional-dependencies"].values(), [])
    own = [line for line in asked if line.startswith("course_lib[")]
    assert [line for line in asked if ">=" not in line and line not in own] == []
    # Sobol(rng=) and boxplot(orientation=)
    assert {"scipy>=1.15", "matplotlib>=3.10"} <= set(asked)


def test_thorough_tier_runs_weekly():
    weekly = WORKFLOWS["thorough"]
    assert "schedule" in weekly[True]
    assert "python -m pytest -m thorough tests" in commands(weekly)


def test_weekly_run_takes_the_newest_versions_on_three_systems():
    weekly = WORKFLOWS["newest"]
    assert "schedule" in weekly[True]  # YAML reads the key `on` as true
    systems = weekly["jobs"]["lax"]["strategy"]["matrix"]["system"]
    assert {system.split("-")[0] for system in systems} == {"ubuntu", "macos", "windows"}
    assert "constraints" not in commands(weekly)
    assert "--nbval-lax" in commands(weekly)


def test_book_is_built_as_the_tests_build_it():
    told = commands(WORKFLOWS["book"])
    assert "-c constraints.txt" in told
    assert "sphinx -W --keep-going -q -c chapters/_book chapters build/book" in told
    for path in re.findall(r"\bchapters/[\w.]+", told):
        assert (ROOT / path).exists(), path


def test_hooks_are_local_and_their_files_exist():
    assert [repo["repo"] for repo in HOOKS] == ["local"]
    hooks = {hook["id"]: hook for hook in HOOKS[0]["hooks"]}
    assert set(hooks) == {"ruff-check", "ruff-format", "notebook-conventions"}
    for hook in hooks.values():
        for path in re.findall(r"\btests/[\w.]+", hook["entry"]):
            assert (ROOT / path).exists(), path
    assert "python tests/lint" in commands(WORKFLOWS["ci"])
    chapter = next((ROOT / "chapters").glob("*.ipynb")).relative_to(ROOT).as_posix()
    assert re.search(hooks["notebook-conventions"]["files"], chapter)
