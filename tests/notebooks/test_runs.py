"""Chapters run as learners run them: any cell twice, at seeds and on processors not chosen."""

import configparser
import copy
import os
import platform
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.thorough
ROOT = Path(__file__).resolve().parents[2]
SEED = re.compile(r"default_rng\(\[(\d+), (\d+)\]\)")
NOTEBOOKS = sorted(
    [*(ROOT / "chapters").glob("0*.ipynb"), *(ROOT / "chapters/deeper").glob("*.ipynb")]
)
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def run(notebook, folder, **environment):
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources)
    client.execute(env={**os.environ, **environment})


def sanitised(text):
    """Replace what differs between runs, as nbval does."""
    rules = configparser.RawConfigParser()
    rules.read(ROOT / "tests" / "nbval_sanitize.cfg")
    for section in rules.sections():
        text = re.sub(rules.get(section, "regex"), rules.get(section, "replace"), text)
    return text


def texts(cell):
    """Return all that the outputs of a cell say, streams joined, pictures left out."""
    said = []
    for output in cell["outputs"]:
        data = output.get("data", {})
        said.append(data.get("text/html") or data.get("text/plain") or output.get("text", ""))
    return sanitised("".join("".join(part) for part in said))


def assert_same_outputs(stored, new):
    before = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert before
    for old, cell in zip(before, new, strict=True):
        if "nbval-ignore-output" not in old.metadata.get("tags", []):
            assert texts(cell) == texts(old), old.source


@each
@pytest.mark.skipif(platform.machine() != "x86_64", reason="knows older processors of one kind")
def test_outputs_hold_on_an_older_processor(path):
    """Sums in another order, as a processor without wide registers makes them."""
    stored = nbformat.read(path, as_version=4)
    new = copy.deepcopy(stored)
    wide = " ".join(np.show_config(mode="dicts")["SIMD Extensions"]["found"])
    run(new, path.parent, OPENBLAS_CORETYPE="Nehalem", NPY_DISABLE_CPU_FEATURES=wide)
    assert_same_outputs(stored, [cell for cell in new.cells if cell.cell_type == "code"])


@each
def test_any_cell_may_be_run_twice(path):
    stored = nbformat.read(path, as_version=4)
    doubled = copy.deepcopy(stored)
    doubled.cells = [
        copy.deepcopy(cell)
        for cell in stored.cells
        for _ in range(2 if cell.cell_type == "code" else 1)
    ]
    for number, cell in enumerate(doubled.cells):
        cell.id = f"copy-{number}"
    run(doubled, path.parent)
    again = [cell for cell in doubled.cells if cell.cell_type == "code"][1::2]
    assert_same_outputs(stored, again)


@each
@pytest.mark.parametrize("seed", range(10))
def test_proofs_hold_at_other_seeds(path, seed):
    notebook = nbformat.read(path, as_version=4)
    changed = 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source, n = SEED.subn(rf"default_rng([\1, \2, {seed}])", cell.source)
            changed += n
    if not changed:
        pytest.skip("nothing is simulated")
    run(notebook, path.parent)
