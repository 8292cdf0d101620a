"""The book: Sphinx builds the course from the notebooks' stored outputs, offline.

Run, in the root of the course: ``python3 start.py book``. The printed editions (`editions.py`)
set the tag ``print``: they leave out what is folded away in the book, and unfold the rest.
"""

import json
import posixpath
import re
import sys
import tomllib
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from bs4 import BeautifulSoup

import mathml
from figure_texts import figure_texts
from vendored import copy_mathjax

project = "Multilevel models in Python"
author = "the authors of the course"
html_title = project
version = tomllib.loads(
    (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
)["project"]["version"]
language = "en"

extensions = ["myst_nb"]
exclude_patterns = ["**.ipynb_checkpoints", "_book"]

# A page shows what the tests have compared; nothing runs while the book is built.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3

html_theme = "sphinx_book_theme"
html_static_path = ["static"]
html_css_files = ["book.css", "print.css"]
html_js_files = ["search.js"]
html_favicon = "static/favicon.svg"
html_copy_source = True
html_show_sphinx = False
# Without it the theme complains in the console of a browser that comes for the first time.
html_context = {"default_mode": "auto"}
html_theme_options = {
    "show_toc_level": 2,
    "show_navbar_depth": 1,
    "navbar_persistent": [],  # the search box is in the side bar
    "navigation_with_keys": False,
    "use_download_button": True,
    "use_fullscreen_button": True,
}

# MathJax comes with a Python package and is copied into the book: no page fetches anything.
html_math_renderer = "mathjax"
mathjax_path = "mathjax/tex-chtml-full.js"
mathjax3_config = {"options": {"enableMenu": False}}


# The EPUB: formulas are MathML there, so that nothing has to run.
epub_title = project
epub_author = author
epub_copyright = "text: CC BY 4.0, code: MIT"
epub_description = "A course on multilevel (mixed-effects) models in Python, on real data"
epub_identifier = "multilevel-models-in-python"
epub_scheme = "course"
epub_basename = "course"
epub_show_urls = "no"
epub_tocscope = "includehidden"
epub_css_files = ["handout.css"]
epub_exclude_files = ["_static/book.css", "_static/print.css", "_static/search.js"]
epub_theme_options = {"relbar1": False, "footer": False}


def add_mathjax(app, exception):
    """Put MathJax where `mathjax_path` says."""
    if (
        exception is None
        and app.builder.format == "html"
        and app.config.html_math_renderer == "mathjax"
    ):
        copy_mathjax(Path(app.outdir, "_static", "mathjax"))


# A link to a cell of a notebook as JupyterLab understands it, for example
# 03_random_slope_model.ipynb#cell-id=nested. In the book it leads to an anchor before the cell.
CELL_LINK = re.compile(r"\]\(([^()\s]*)\.ipynb#cell-id=([\w-]+)\)")
# What a tag hides on a page of the book; a click shows it. Paper cannot be clicked.
PRINTED = tags.has("print")  # noqa: F821 (Sphinx brings it)
HIDDEN = {"proof": "hide-cell", "guess": "hide-output"}
if PRINTED:
    HIDDEN = {"proof": "remove-cell", "hide-input": "remove-input"}
NOTE = re.compile(r"<details>\s*<summary>For lecturers.*?</details>", re.S)
LECTURERS = re.compile(r"<details>(?=\s*<summary>For lecturers)")


def prepare_page(app, docname, source):
    """Mend the links of a page; prepare a notebook's cells.

    Links to the README lead to the book's first page, links to a cell to its anchor. Each
    figure gets its text alternative; the notes for lecturers are folded.
    """
    text = re.sub(r"\]\(((?:\.\./)*)\.\./README\.md\)", r"](\1index.md)", source[0])
    source[0] = CELL_LINK.sub(
        lambda link: f"]({link[1]}.ipynb#{label(target(docname, link[1]), link[2])})", text
    )
    if Path(app.env.doc2path(docname)).suffix != ".ipynb":
        return
    notebook = json.loads(source[0])
    for index, alternative in figure_texts(notebook["cells"]).items():
        notebook["cells"][index]["metadata"]["mystnb"] = {"image": {"alt": alternative}}
    wanted = linked_cells(Path(app.srcdir)).get(docname, set())
    notebook["cells"] = [
        prepared
        for cell in notebook["cells"]
        for prepared in ([anchor(docname, cell["id"])] if cell["id"] in wanted else [])
        + [shown(cell)]
    ]
    source[0] = json.dumps(notebook)


@cache
def linked_cells(folder):
    """Return the ids of the cells that a link leads to, by the page of their notebook."""
    found = {}
    for path in [*folder.glob("*.md"), *folder.glob("*.ipynb"), *folder.glob("*/*.ipynb")]:
        page = path.relative_to(folder).with_suffix("").as_posix()
        for there, cell in CELL_LINK.findall(path.read_text(encoding="utf-8")):
            found.setdefault(target(page, there), set()).add(cell)
    return found


def target(page, there):
    """Return the page that the link `there` of a page leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), there)) if there else page


def label(page, cell):
    """Return the book's name of a cell: labels are of the whole book, ids of one notebook."""
    return re.sub(r"[/_]", "-", f"cell-{page}-{cell}")


def anchor(page, cell):
    """Return a cell that puts an anchor before the next one: a label needs a paragraph."""
    text = f'({label(page, cell)})=\n<span class="cell-anchor"></span>'
    return {"cell_type": "markdown", "id": f"to-{cell}", "metadata": {}, "source": text}


def shown(cell):
    """Return a cell as the book shows it."""
    own = cell["metadata"].get("tags", [])
    hidden = [HIDDEN[tag] for tag in own if tag in HIDDEN]
    if hidden:
        kept = [tag for tag in own if not PRINTED or tag not in HIDDEN]
        cell["metadata"]["tags"] = [*kept, *hidden]
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown" and source.startswith("For lecturers:"):
        note = source.removeprefix("For lecturers:").strip()
        source = f"<details>\n<summary>For lecturers</summary>\n\n{note}\n\n</details>"
    if cell["cell_type"] == "markdown" and PRINTED:
        source = NOTE.sub("", source).replace("<details>", "<details open>")
    cell["source"] = LECTURERS.sub('<details class="lecturers">', source)
    return cell


def write_xhtml(app, pagename, templatename, context, doctree):
    """Close every tag: readers of an EPUB show no page that is not XML."""
    if app.builder.name == "epub" and "body" in context:
        context["body"] = str(BeautifulSoup(context["body"], "html.parser"))


def setup(app):
    """Connect the steps above."""
    mathml.add_renderer(app)
    if PRINTED:  # the one page of the PDF has formulas that Sphinx does not see
        app.set_html_assets_policy("always")
    app.connect("html-page-context", write_xhtml)
    app.connect("source-read", prepare_page)
    app.connect("build-finished", add_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
