"""What of a chapter goes on the wall: a heading, a question, a picture or table, a conclusion.

The notebook is the lecture's script, not its slides. `slides_of` takes from each section what a
room can read at a glance, and hands the rest of the text to the speaker as notes.
"""

import re
from dataclasses import dataclass, field

MOST_WORDS, MOST_CODE_LINES, WIDEST_CODE, MOST_OUTPUT_LINES = 50, 8, 80, 14
MOST_JOINED = 11  # lines of code and output that fit below a question
SPOKEN = ("## What you need", "## Time", "## Further reading")  # sections without slides
LISTED = ("## What you will be able to do", "## Summary")  # sections that are their list
LECTURERS = re.compile(
    r"<details[^>]*>\s*<summary>For lecturers.*?</summary>(.*?)</details>", re.S
)
BOX = re.compile(r"<details[^>]*>\s*<summary>(.*?)</summary>(.*?)</details>", re.S)
FORMULA = re.compile(r"\$\$.+?\$\$", re.S)
DRAWS = re.compile(r"\b(?:plt|ax|axes|fig|sns)\b")
IMPORTS = re.compile(r"^(?:from|import) ", re.M)
SHOWN = ("image/png", "text/html", "text/plain")  # the first that an output has


@dataclass
class Slide:
    """One slide: a heading, parts as (kind, content), and what the speaker says.

    Kinds are "text", "formula" and "conclusion" (Markdown), "code" (source), "output" (MIME
    bundle), and "alt" (the text alternative of the picture before it).
    """

    heading: str
    parts: list = field(default_factory=list)
    notes: list = field(default_factory=list)


def slides_of(cells, pictures=None):
    """Return the sections of a chapter as lists of slides.

    Parameters
    ----------
    cells : list of dict
        The cells of a notebook, as nbformat or the JSON has them.
    pictures : dict of int to str, optional
        The text alternatives of the pictures by the index of their cell.

    Returns
    -------
    list of list of Slide
        One list per section of the notebook, in order.
    """
    sections = []
    for index, cell in enumerate(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            heading = re.match(r"(#{1,3}) (.+)", source)
            if heading and len(heading[1]) < 3 or not sections:
                sections.append(_opened(source))
            elif heading:
                sections[-1].append(_asked(heading[2], source))
            else:
                _told(sections[-1], source)
        elif not _is_hidden(cell):
            _show(sections[-1], cell, source, (pictures or {}).get(index, "A figure."))
    return [kept for kept in map(_without_empty, sections) if kept]


def _without_empty(section):
    """Leave out slides with nothing to see; the next one takes over what is said."""
    kept, said = [], []
    for slide in section:
        slide.parts = [part for part in slide.parts if part[1]]
        said += slide.notes
        if slide.parts:
            slide.notes, said = said, []
            kept.append(slide)
    if kept:
        kept[-1].notes += said
    return kept


def _opened(source):
    """Return the first slides of a section."""
    heading, _, rest = source.partition("\n")
    title = re.sub(r"^#+ ", "", heading)
    if heading in SPOKEN:
        return [Slide(title, [], [rest])]
    if heading in LISTED:
        items = re.findall(r"^- (.+(?:\n  .+)*)", rest, re.M)
        pages = [[]]
        for item in filter(None, map(_fitting_item, items)):
            if pages[-1] and n_words(" ".join([*pages[-1], item])) > MOST_WORDS:
                pages.append([])
            pages[-1].append(item)
        made = [
            Slide(title, [("text", "\n".join(f"- {item}" for item in page))]) for page in pages
        ]
        made[0].notes.append(rest)
        return made
    return [_asked(title, source)]


def _asked(title, source):
    """Return the slide that opens a section: its question, and a formula if there is one."""
    _, _, rest = source.partition("\n")
    slide = Slide(title)
    text = _running(rest)
    sentences = _sentences(text.replace("**", ""))
    asked = [s for s in sentences if s.endswith("?") and n_words(s) <= MOST_WORDS]
    opening = asked[0] if asked else _fitting(text)
    slide.parts.append(("text", opening))
    slide.parts += [("formula", formula) for formula in FORMULA.findall(rest)[:1]]
    slide.notes += _spoken(rest)
    return slide


def _told(section, source):
    """Give the last slide of a section its conclusion, and the speaker the rest."""
    lecturers = LECTURERS.search(source)
    if lecturers or source.startswith("For lecturers:"):
        note = lecturers[1] if lecturers else source.removeprefix("For lecturers:")
        section[0].notes.insert(0, note.strip())
        return
    formulas = FORMULA.findall(source)
    if formulas:
        section.append(Slide(section[-1].heading, [("formula", formulas[0])]))
    last = section[-1]
    bold = [b for b in re.findall(r"\*\*(.+?)\*\*", _running(source), re.S) if n_words(b) >= 6]
    room = MOST_WORDS - sum(n_words(text) for kind, text in last.parts if kind == "text")
    if bold and not bold[-1].rstrip().endswith("?") and n_words(bold[-1]) <= MOST_WORDS:
        if n_words(bold[-1]) > room or _n_lines(last) > MOST_JOINED:
            section.append(last := Slide(last.heading))
        last.parts = [part for part in last.parts if part[0] != "conclusion"]
        last.parts.append(("conclusion", bold[-1]))
    last.notes += _spoken(source)


def _show(section, cell, source, alt):
    """Show the output of a code cell, and its code if that is short.

    What is not high joins the question that has just been asked.
    """
    bundle = _bundle(cell)
    if not bundle or IMPORTS.search(source) or "check(" in source:
        return
    lines = [line for line in source.splitlines() if line.strip()]
    short = len(lines) <= MOST_CODE_LINES and max(map(len, lines)) <= WIDEST_CODE
    parts = [("output", bundle), ("alt", alt)]
    if short and "image/png" not in bundle and not _is_machinery(cell, source):
        parts.insert(0, ("code", "\n".join(lines)))
    asked = section[-1]
    high = len(lines) + _n_rows(bundle) > MOST_JOINED and parts[0][0] == "code"
    if [kind for kind, _ in asked.parts] == ["text"] and not high:
        asked.parts += parts
    else:
        section.append(Slide(asked.heading, parts))


def _n_rows(bundle):
    """Return about how many lines an output has."""
    return bundle.get("text/html", "").count("<tr") + len(
        bundle.get("text/plain", "").splitlines()
    )


def _n_lines(slide):
    """Return about how many lines of code and output a slide has; a picture makes room."""
    code = sum(len(part.splitlines()) for kind, part in slide.parts if kind == "code")
    return code + sum(_n_rows(part) for kind, part in slide.parts if kind == "output")


def _is_machinery(cell, source):
    return "hide-input" in cell["metadata"].get("tags", []) or bool(DRAWS.search(source))


def _bundle(cell):
    """Return the richest output of a cell as {MIME type: content}; empty if it is too long."""
    texts = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        for kind in SHOWN[:2]:
            if kind in data:
                return {kind: "".join(data[kind])}
        texts.append("".join(data.get("text/plain", output.get("text", ""))))
    text = "".join(texts).rstrip()
    return {"text/plain": text} if 0 < len(text.splitlines()) <= MOST_OUTPUT_LINES else {}


def _is_hidden(cell):
    tags = set(cell["metadata"].get("tags", []))
    return bool(tags & {"proof", "nbval-ignore-output"}) or not cell.get("outputs")


def _running(source):
    """Return the running text: no boxes, formulas, tables, lists or quotations."""
    text = FORMULA.sub(" ", BOX.sub(" ", source))
    text = re.sub(r"```.*?```", " ", text, flags=re.S)
    lines = [s for s in text.splitlines() if not re.match(r"\s*(?:[#|>!]|[-*] |\d+\. )", s)]
    return "\n".join(lines)


def _spoken(source):
    """Return the notes: the text, each folded box under its title."""
    text = BOX.sub(lambda box: f"*{box[1].strip()}.* {box[2].strip()}", source).strip()
    return [text] if text else []


def _sentences(text):
    """Return the sentences of running text, on one line each, in order."""
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        flat = " ".join(paragraph.split())
        found += [s for s in re.split(r"(?<=[.!?])\s+(?=[A-Z*`$\"])", flat) if s]
    return found


def _fitting(text):
    """Return the first sentence, if a slide can hold it."""
    first = _sentences(text)[:1]
    return first[0] if first and n_words(first[0]) <= MOST_WORDS else ""


def _fitting_item(item):
    """Return a list item, or its first sentence where a slide cannot hold all of it."""
    return item if n_words(item) <= MOST_WORDS else _fitting(item)


def n_words(text):
    """Count words; a formula or a piece of code is one."""
    return len(re.sub(r"\$[^$]*\$|`[^`]*`", "x", text).split())
