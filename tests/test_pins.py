"""The pins can be installed on every Python that the course names, asked of a real resolver.

``uv pip compile --python-version`` evaluates markers and ``Requires-Python`` for that version;
``pip download --python-version`` would evaluate markers with the running one.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
UV = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")

pytestmark = [
    pytest.mark.thorough,  # the only test that needs the network
    pytest.mark.skipif(UV is None, reason="uv is not installed: pip install -e '.[dev]'"),
]


def name_and_version(line):
    name, version = re.match(r"([\w.-]+)==([\w.+!]+)", line).groups()
    return re.sub(r"[-_.]+", "-", name).lower(), version


@pytest.mark.parametrize("python", ["3.11.0", "3.11.2", "3.12", "3.13", "3.14"])
def test_the_pins_resolve(python, tmp_path):
    out = tmp_path / "resolved.txt"
    command = [UV, "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    command += ["--python-version", python, "--extra", "dev", "-c", "constraints.txt"]
    run = subprocess.run(
        [*command, "pyproject.toml", "-o", str(out)], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    resolved = {name_and_version(line) for line in out.read_text().splitlines()}
    lines = (ROOT / "constraints.txt").read_text(encoding="ascii").splitlines()
    pins = {name_and_version(line) for line in lines if line and line[0] != "#"}
    assert len(resolved) > 100
    assert resolved - pins == set()
