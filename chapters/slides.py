"""The lectures: every chapter as reveal.js slides that need no network.

``python chapters/slides.py`` writes one page a chapter, and an index, into build/slides;
``python chapters/slides.py FOLDER`` writes them elsewhere. Open a page in a browser; S shows
the speaker's notes, F fills the screen, ESC gives the overview.

nbconvert makes the page from the stored outputs. How high a cell is on the wall only a browser
knows, so `_slides/fit.js` cuts the slides to size when the page opens.
"""

import html
import re
import shutil
import sys
from pathlib import Path

import nbformat
from figure_texts import figure_texts
from nbconvert import SlidesExporter
from vendored import copy_mathjax, copy_reveal

CHAPTERS = Path(__file__).resolve().parent
DEFAULT = CHAPTERS.parent / "build" / "slides"
INDEX = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<link rel="icon" href="favicon.svg"><link rel="stylesheet" href="slides.css">
<title>Slides</title>
<body class="index">
<h1>Multilevel models in Python: the slides</h1>
<ol>
{items}
</ol>
<p>S: speaker's notes · F: full screen · ESC: overview · space: the next step</p>
"""


def main(folder):
    """Write the slides of all chapters into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    copy_reveal(folder / "reveal")
    copy_mathjax(folder / "mathjax")
    for file in ("_slides/fit.js", "_slides/slides.css", "_static/favicon.svg"):
        shutil.copy(CHAPTERS / file, folder)
    exporter = SlidesExporter(
        template_name="_slides",
        extra_template_basedirs=[str(CHAPTERS)],
        reveal_url_prefix="reveal",
        reveal_theme="white",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    items = []
    for path in sorted(CHAPTERS.glob("*.ipynb")):
        notebook = prepared(nbformat.read(path, as_version=4))
        title = notebook.metadata["title"]
        page, _ = exporter.from_notebook_node(notebook)
        (folder / f"{path.stem}.slides.html").write_text(page, encoding="utf-8")
        items.append(f'<li><a href="{path.stem}.slides.html">{html.escape(title)}</a></li>')
    index = INDEX.format(items="\n".join(items))
    (folder / "index.html").write_text(index, encoding="utf-8")
    return len(items)


def prepared(notebook):
    """Give the notebook its title and its figures their text alternatives; mend the links."""
    title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
    notebook.metadata["title"] = re.sub(r"^Chapter \d+\. ", "", title)
    for index, text in figure_texts(notebook.cells).items():
        for output in notebook.cells[index].outputs:
            if "image/png" in output.get("data", {}):
                output.metadata["image/png"] = {"alt": text}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\[([^\]]+)\]\((?!\w+:)([^)]+)\)", _link, cell.source)
    return notebook


def _link(found):
    """Lead to the other chapter's slides; of what has no slides, keep the words."""
    words, target = found.groups()
    chapter = re.fullmatch(r"(\d\d_\w+)\.ipynb(?:#.*)?", target)
    return f"[{words}]({chapter[1]}.slides.html)" if chapter else words


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    print(f"{main(target)} chapters as slides in {target}")
