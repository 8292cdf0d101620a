"""Formulas as MathML: what shows them needs neither a script nor a network.

The EPUB and the handouts use it; the book, the slides and the PDF have MathJax.
"""

import html
import re

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

# docutils knows these sizes only with a side: \Big( is \Bigl(.
SIZES = re.compile(r"\\(big|Big|bigg|Bigg)(?=[\s()\[\]|\\/])")

NAMED = re.compile(r"&(?!(?:amp|lt|gt|quot);)\w+;")  # XML knows only these names of signs


def add_renderer(app):
    """Let Sphinx know the renderer ``mathml``."""
    app.add_html_math_renderer("mathml", (write_math, None), (write_math, None))


def write_math(translator, node):
    """Write a formula, in a line or on its own."""
    block = isinstance(node, nodes.math_block)
    made = formula(node.astext(), block)
    translator.body.append(f'<div class="math">{made}</div>' if block else made)
    raise nodes.SkipNode


def formula(tex, block):
    """Return a formula of LaTeX as MathML; the LaTeX is its text alternative."""
    made = tex2mathml(SIZES.sub(r"\\\1l", tex), block)
    made = NAMED.sub(lambda entity: html.unescape(entity[0]), made)
    return made.replace("<math ", f'<math alttext="{html.escape(" ".join(tex.split()))}" ', 1)
