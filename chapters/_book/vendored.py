"""JavaScript that the book and the slides bring along, copied from Python packages.

Nothing is fetched from anywhere when a page is read or a slide is shown.
"""

import shutil
from importlib.util import find_spec
from pathlib import Path

MATHJAX = "sphinx-mathjax-offline", "static/mathjax"  # MathJax 3.2.2, Apache 2.0
MATHJAX_FILES = ("tex-chtml-full.js", "output/chtml/fonts/woff-v2/*.woff")

REVEAL = "sphinx_revealjs", "_static/revealjs"  # reveal.js 5.2, MIT
REVEAL_FILES = (
    "LICENSE",
    "dist/reveal.js",
    "dist/reveal.css",
    "dist/theme/white.css",
    "dist/theme/fonts/source-sans-pro/*",
    "plugin/notes/notes.js",
)


def copy_mathjax(folder):
    """Copy the one component of MathJax that the pages load, and its fonts, into `folder`."""
    _copy(MATHJAX, MATHJAX_FILES, folder)


def copy_reveal(folder):
    """Copy reveal.js, one theme with its fonts, and the speaker view into `folder`."""
    _copy(REVEAL, REVEAL_FILES, folder)


def _copy(package, patterns, folder):
    name, inside = package
    source = Path(find_spec(name).origin).parent / inside
    for pattern in patterns:
        files = list(source.glob(pattern))
        if not files:
            raise FileNotFoundError(f"{name} no longer has {pattern}")
        for file in files:
            target = Path(folder, file.relative_to(source))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
