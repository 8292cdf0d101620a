"""One counter for all limits: how long a notebook is, and what a reader meets in it.

Words are those of markdown cells, headings and tables included, without speaker notes and the
box "For lecturers"; a formula or a piece of code counts as one. Code lines are not blank; they
are hidden where a tag or the cell's own flag hides them. Sentences and parentheses are looked
for in running text only: no headings, tables, formulas, code, targets of links.
"""

import base64
import re
import struct
from dataclasses import dataclass

HIDING_TAGS = {"hide-cell", "hide-input", "remove-cell", "proof"}
LECTURERS = re.compile(r"<details>\s*<summary>For lecturers.*?</details>", re.S)
WIDEST_CODE, LONG_SENTENCE, LONG_PARENTHESIS = 80, 25, 8
MOST = {"words": 4000, "code_lines": 330, "hidden_lines": 150, "asserts": 0, "wide_lines": 0}
LEAST_WIDTH = 1000


@dataclass(frozen=True)
class Counts:
    """Lengths of one notebook; `narrowest` is the least width of a picture, in pixels."""

    words: int
    code_lines: int
    hidden_lines: int
    asserts: int
    wide_lines: int
    long_sentences: int
    long_parentheses: int
    pictures: int
    narrowest: int


def count(notebook):
    """Count one notebook (the parsed JSON)."""
    markdown = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    texts = [prose(cell) for cell in markdown]
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    shown = [line for cell in code if not is_hidden(cell) for line in live_lines(cell)]
    hidden = [line for cell in code if is_hidden(cell) for line in live_lines(cell)]
    widths = [width for cell in code for width in picture_widths(cell)]
    found = [sentence for text in texts for sentence in sentences(text)]
    return Counts(
        words=sum(n_words(cell) for cell in markdown),
        code_lines=len(shown),
        hidden_lines=len(hidden),
        asserts=sum(line.strip().startswith("assert") for line in shown),
        wide_lines=sum(len(line) > WIDEST_CODE for line in shown),
        long_sentences=sum(len(sentence.split()) > LONG_SENTENCE for sentence in found),
        long_parentheses=sum(
            len(inside.split()) > LONG_PARENTHESIS
            for text in texts
            for inside in re.findall(r"\(([^()]*)\)", text)
        ),
        pictures=len(widths),
        narrowest=min(widths, default=0),
    )


def excesses(counts, core=True):
    """Yield what is too long or too narrow; a deeper notebook is as long as it must be."""
    for name, most in MOST.items():
        if (core or not name.endswith(("words", "code_lines", "hidden_lines"))) and getattr(
            counts, name
        ) > most:
            yield f"{getattr(counts, name)} {name}, more than {most}"
    if counts.pictures and counts.narrowest < LEAST_WIDTH:
        yield f"a picture is {counts.narrowest} px wide, less than {LEAST_WIDTH}"


def told(cell):
    """Return what a markdown cell tells a reader: nothing of notes for the speaker."""
    if cell["metadata"].get("slideshow", {}).get("slide_type") == "notes":
        return ""
    return LECTURERS.sub(" ", "".join(cell["source"]))


def n_words(cell):
    """Count the words of a markdown cell."""
    return len(re.sub(r"\$[^$]*\$|`[^`]*`", " x ", told(cell)).split())


def n_running_words(cell):
    """Count the words of a markdown cell without boxes, tables and quotations."""
    text = re.sub(r"<details>.*?</details>|\$\$.*?\$\$", " ", told(cell), flags=re.S)
    lines = [line for line in text.splitlines() if not re.match(r"\s*[|>]", line)]
    return n_words({"metadata": {}, "source": "\n".join(lines)})


def prose(cell):
    """Return the running text of a markdown cell."""
    text = told(cell)
    text = re.sub(r"```.*?```|\$\$.*?\$\$|<!--.*?-->|</?\w+[^>]*>", " ", text, flags=re.S)
    lines = [line for line in text.splitlines() if not re.match(r"\s*(#|\||!\[)", line)]
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", "\n".join(lines))
    return re.sub(r"\$[^$]*\$|`[^`]*`", "x", text)


def sentences(text):
    """Split running text at full stops, list items and blank lines."""
    found = []
    for block in re.split(r"\n\s*\n|\n\s*[-*>] |\n\s*\d+\. ", text):
        flat = " ".join(block.split())
        found += re.split(r"(?<=[.!?:])\s+(?=[A-Z\"'(*])", flat)
    return [sentence for sentence in found if len(sentence.split()) > 2]


def is_hidden(cell):
    """Whether JupyterLab, the book or the slides hide the source of a code cell."""
    tags = set(cell["metadata"].get("tags", []))
    flag = cell["metadata"].get("jupyter", {}).get("source_hidden", False)
    return bool(tags & HIDING_TAGS) or bool(flag)


def live_lines(cell):
    """Return the lines that are not blank."""
    return [line for line in "".join(cell["source"]).splitlines() if line.strip()]


def picture_widths(cell):
    """Return the widths in pixels of the stored PNG pictures of a code cell."""
    stored = [output.get("data", {}).get("image/png") for output in cell["outputs"]]
    raw = [base64.b64decode("".join(picture)) for picture in stored if picture]
    return [struct.unpack(">I", png[16:20])[0] for png in raw]
