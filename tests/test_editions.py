"""The printed editions: nothing is cut, split or fetched, and formulas and pictures speak."""

import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import pytest
from browser import chromium, listen

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "chapters"
NOTEBOOKS = sorted(
    path
    for folder in (".", "deeper", "solutions")
    for path in (CHAPTERS / folder).glob("*.ipynb")
)
MATHML = "{http://www.w3.org/1998/Math/MathML}"
XHTML = "{http://www.w3.org/1999/xhtml}"
FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\$])\$([^$\n]+?)(?<!\\)\$", re.S)

mathml = pytest.importorskip("mathml", reason="the extra `book` is not installed")


def cells(path, kind):
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == kind]


def hidden(cell):
    """Whether paper leaves out the code of a cell."""
    return bool({"proof", "hide-input"} & set(cell["metadata"].get("tags", [])))


def squeezed(text):
    """Without spaces, and without Chinese: a machine may have no font for it."""
    return re.sub(r"[\s\u3000-\u9fff\uff00-\uffef]", "", text)


def edition(name, target):
    command = [sys.executable, str(CHAPTERS / "_book" / "editions.py"), name, str(target)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=target.parent)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return target


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.stem}-{path.stem}")
def test_every_formula_can_be_written_without_a_script(path):
    texts = ["".join(cell["source"]) for cell in cells(path, "markdown")]
    for text in texts:
        for block, inline in FORMULA.findall(re.sub(r"`[^`]*`", "", text)):
            made = ElementTree.fromstring(mathml.formula(block or inline, bool(block)))
            assert made.tag == f"{MATHML}math"
            assert made.get("alttext") == " ".join((block or inline).split())


@pytest.mark.thorough  # builds the whole course
def test_pdf_has_all_code_and_every_picture_once(tmp_path):
    if not shutil.which("pdftotext"):
        pytest.skip("pdftotext is not installed")
    with chromium():
        pass
    pdf = edition("pdf", tmp_path / "course.pdf")

    def told(*command):
        return subprocess.run([*command], capture_output=True, check=True, text=True).stdout

    text = squeezed(told("pdftotext", "-raw", str(pdf), "-"))
    shown = [c for path in NOTEBOOKS for c in cells(path, "code") if not hidden(c)]
    assert len(shown) > 500
    lost = [c["source"] for c in shown if squeezed("".join(c["source"])) not in text]
    assert lost == []
    assert squeezed("For lecturers:") not in text
    pages = int(re.search(r"Pages: +(\d+)", told("pdfinfo", str(pdf)))[1])
    assert 200 < pages < 600
    pictures = sum(
        "image/png" in output.get("data", {})
        for path in NOTEBOOKS
        for cell in cells(path, "code")
        if "proof" not in cell["metadata"].get("tags", [])
        for output in cell["outputs"]
    )
    drawn = [
        line for line in told("pdfimages", "-list", str(pdf)).splitlines() if " image " in line
    ]
    assert (
        len(drawn) == pictures + 1
    )  # that of the first page; a split one would be there twice


@pytest.mark.thorough  # builds the whole course
def test_epub_is_xml_with_formulas_and_text_alternatives(tmp_path):
    book = zipfile.ZipFile(edition("epub", tmp_path / "course.epub"))
    assert book.namelist()[0] == "mimetype"
    pages = [name for name in book.namelist() if name.endswith(".xhtml")]
    formulas = 0
    for name in pages:
        source = book.read(name).decode()
        page = ElementTree.fromstring(source)
        formulas += len(list(page.iter(f"{MATHML}math")))
        assert list(page.iter(f"{XHTML}script")) == []
        for image in page.iter(f"{XHTML}img"):
            assert len(image.get("alt", "")) >= 15, name
        assert 'details class="lecturers"' not in source
    assert formulas > 400
    assert len(pages) >= len(NOTEBOOKS) + 3
    assert not any("mathjax" in name for name in book.namelist())


@pytest.mark.thorough  # builds the whole course
def test_handouts_are_single_files_that_need_no_network(tmp_path):
    folder = edition("handouts", tmp_path / "handouts")
    made = {
        path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.html")
    }
    wanted = {path.relative_to(CHAPTERS).with_suffix("").as_posix() for path in NOTEBOOKS}
    assert wanted - made == set()
    assert {path.suffix for path in folder.rglob("*.*")} == {".html"}
    alone = tmp_path / "alone.html"
    with chromium() as browser:
        for path in sorted(folder.glob("0*.html")):
            shutil.copy(path, alone)
            page = browser.new_page()
            complaints = listen(page)
            page.goto(alone.as_uri())
            assert page.locator("math").count() > 0 or "$" not in path.read_text(
                encoding="utf-8"
            )
            poor = "[...document.images].filter(i => !i.naturalWidth || i.alt.length < 15)"
            assert page.evaluate(f"{poor}.length") == 0
            assert page.locator("details.lecturers, script").count() == 0
            assert complaints == []
            page.close()
