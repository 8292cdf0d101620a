"""The wheel is whole: all wings, the data and the style file, used without the clone."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from course_lib import datasets

pytest.importorskip(
    "setuptools", minversion="77", reason="the wheel is built without a network"
)

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("course_lib", "data", "pyproject.toml", "README.md", "LICENSE")
BUILD = "from setuptools import build_meta; build_meta.build_wheel('.')"
USE = """
from pathlib import Path
import matplotlib.pyplot as plt
from course_lib import datasets, load
assert Path(datasets.__file__).is_relative_to({0!r}), datasets.__file__
assert datasets.DATA_DIRECTORY == Path({0!r}, "course_lib", "data")
print(*(len(load(name)) for name in datasets.names()))
plt.style.use("course_lib.plots.course")
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """Build a wheel from a copy of the sources; return the folder into which it is unpacked."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            skipped = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=skipped)
        else:
            shutil.copy(ROOT / name, source)
    command = [sys.executable, "-W", "ignore", "-c", BUILD]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = source.glob("*.whl")
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


@pytest.mark.slow
def test_wheel_has_every_file_of_the_library_and_the_data(unpacked):
    there = {
        path.relative_to(unpacked / "course_lib")
        for path in unpacked.rglob("*.*")
        if path.is_relative_to(unpacked / "course_lib") and path.is_file()
    }
    library = {
        path.relative_to(ROOT / "course_lib")
        for path in (ROOT / "course_lib").rglob("*")
        if path.suffix in (".py", ".mplstyle")
    }
    data = {Path("data", path.name) for path in (ROOT / "data").glob("[!.]*")}
    assert there == library | data


@pytest.mark.slow
def test_wheel_loads_data_and_style_without_the_clone(unpacked, tmp_path):
    code = f"import sys; sys.path.insert(0, {str(unpacked)!r})\n" + USE.format(str(unpacked))
    used = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert used.returncode == 0, used.stderr
    rows = [datasets.codebook(name).n_rows for name in datasets.names()]
    assert used.stdout.split() == list(map(str, rows))


def test_a_clone_loads_its_own_folder():
    """Also when it is installed in editable mode, which maps the package but not the data."""
    assert datasets.DATA_DIRECTORY == ROOT / "data"
