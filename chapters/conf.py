"""The book: Sphinx builds the course from the notebooks' stored outputs, offline.

Run ``python -m sphinx -W --keep-going chapters build/book`` in the root of the course.
"""

import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from figure_texts import figure_texts
from vendored import copy_mathjax

project = "Multilevel models in Python"
author = "the authors of the course"
html_title = project
language = "en"

extensions = ["myst_nb"]
exclude_patterns = ["**.ipynb_checkpoints", "README.md"]

# A page shows what the tests have compared; nothing runs while the book is built.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3

html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_favicon = "_static/favicon.svg"
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
mathjax_path = "mathjax/tex-chtml-full.js"
mathjax3_config = {"options": {"enableMenu": False}}


def add_mathjax(app, exception):
    """Put MathJax where `mathjax_path` says."""
    if exception is None and app.builder.format == "html":
        copy_mathjax(Path(app.outdir, "_static", "mathjax"))


def prepare_page(app, docname, source):
    """Let links to the README lead to the book's first page; prepare a notebook's cells.

    Each figure gets its text alternative; the notes for lecturers are folded.
    """
    source[0] = re.sub(r"\]\(((?:\.\./)*)\.\./README\.md\)", r"](\1index.md)", source[0])
    if Path(app.env.doc2path(docname)).suffix != ".ipynb":
        return
    notebook = json.loads(source[0])
    for index, text in figure_texts(notebook["cells"]).items():
        notebook["cells"][index]["metadata"]["mystnb"] = {"image": {"alt": text}}
    for cell in notebook["cells"]:
        if cell["metadata"].get("slideshow", {}).get("slide_type") == "notes":
            note = "".join(cell["source"]).removeprefix("For lecturers:").strip()
            cell["source"] = (
                '<details class="lecturers"><summary>For lecturers</summary>\n\n'
                f"{note}\n\n</details>"
            )
    source[0] = json.dumps(notebook)


def setup(app):
    """Connect the two steps above."""
    app.connect("source-read", prepare_page)
    app.connect("build-finished", add_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
