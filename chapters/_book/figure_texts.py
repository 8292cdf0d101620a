"""What a figure shows, in words, for those who cannot see it.

The chapters say after each figure what to see (`figures_are_told` in
tests/test_notebook_conventions.py). The figure's title and the beginning of that text are its
text alternative in the book and in the slides, so that nobody has to write them twice.
"""

import re

SHORTEST, LONGEST = 60, 300  # characters; one short sentence alone says too little
MARKS = (
    (r"```.*?```", " "),
    (r"\$\$.*?\$\$", " "),
    (r"!?\[([^\]]*)\]\([^)]*\)", r"\1"),  # links keep their words
    (r"\*\*|[`$]", ""),
    (r"(?<!\w)([*_])(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2"),  # *emphasis*
    (r"^\s*(?:#+|>|[-*]|\d+\.)\s+", ""),  # headings, quotations, lists
)
TITLE = re.compile(r"""\b(?:set_title\(|suptitle\(|title=)\s*"([^"]+)\"""")


def figure_texts(cells):
    """Tell what each figure of a notebook shows.

    Parameters
    ----------
    cells : list of dict
        The cells of a notebook, as nbformat or the JSON has them.

    Returns
    -------
    dict of int to str
        For each cell that has a PNG: its index; the titles that stand in its code, and the
        first sentences of the text after it.
    """
    texts = {}
    for index, cell in enumerate(cells):
        outputs = cell.get("outputs", [])
        if any("image/png" in output.get("data", {}) for output in outputs):
            after = [_source(c) for c in cells[index + 1 :] if _is_text(c)]
            titles = [f"{title.rstrip('.')}." for title in TITLE.findall(_source(cell))]
            parts = [*titles, *(first_sentences(text) for text in after[:1])]
            texts[index] = " ".join(parts) or "A figure."
    return texts


def first_sentences(markdown):
    """Return the first sentences, at least `SHORTEST` characters, without markup."""
    text = markdown
    for pattern, replacement in MARKS:
        text = re.sub(pattern, replacement, text, flags=re.M | re.S)
    text = " ".join(text.split())
    taken = ""
    for sentence in re.split(r"(?<=[.!?:])\s+(?=[^\sa-z])", text):
        taken = f"{taken} {sentence}".strip()
        if len(taken) >= SHORTEST:
            break
    return taken if len(taken) <= LONGEST else taken[:LONGEST].rsplit(" ", 1)[0] + " …"


def _source(cell):
    return "".join(cell["source"])


def _is_text(cell):
    kind = cell["metadata"].get("slideshow", {}).get("slide_type")
    return cell["cell_type"] == "markdown" and kind != "notes"
