"""What of a chapter goes on the wall: a heading, a question, a picture or table, a conclusion.

The notebook is the lecture's script, not its slides. `slides_of` takes from each section what a
room can read at a glance, and hands the rest of the text to the speaker as notes. An exercise
is shown whole, so that a room can vote on it.

What no rule can know, an author writes into a cell's metadata, under the key `slide`:

- `lead`: the text above what the cell shows (of a heading: its opening),
- `code`: whether the code is shown; without it, code that fits a model or has one line is,
- `conclusion`: the sentence for the box, an empty one for none,
- `under`: the id of the cell below whose output the conclusion stands,
- `skip`: true if nothing of the cell is shown.
"""

import re
from dataclasses import dataclass, field

MOST_WORDS, MOST_CODE_LINES, WIDEST_CODE, MOST_OUTPUT_LINES = 50, 8, 80, 14
MOST_LISTED = 125  # words of a list: what is summed up is seen at once
LEAST_CONCLUSION = 8  # words; shorter bold text is a heading within a paragraph
LONGEST_OUTPUT = 24  # lines of printed text that an author introduces
LEAST_LINES = 3  # of printed text that is a slide without a conclusion
MOST_JOINED = 11  # lines of code and output that fit below a question, or above a conclusion
MOST_BELOW_TEXT = 28  # words above a picture: two lines, or the picture gets too small
MOST_TABLE_WORDS, MOST_TABLE_ROWS = 80, 8  # of a table in the running text
SPOKEN = ("## What you need", "## Time", "## Exercises", "## Further reading")  # no slides
LISTED = ("## What you will be able to do", "## Summary")  # sections that are their list
LECTURERS = re.compile(
    r"<details[^>]*>\s*<summary>For lecturers.*?</summary>(.*?)</details>", re.S
)
BOX = re.compile(r"<details[^>]*>\s*<summary>(.*?)</summary>(.*?)</details>", re.S)
FORMULA = re.compile(r"\$\$.+?\$\$", re.S)
TABLE = re.compile(r"(?:^\|.+\n?){3,}", re.M)
ANNOUNCED = re.compile(r"\b(?:next|this|following) cell|\bcells? below")
EXERCISE = re.compile(r"Exercise \d+\.\d+$")
FITS = re.compile(r"\blmer\(")
KEYS = {"lead": str, "code": bool, "conclusion": str, "under": str, "skip": bool}
DRAWS = re.compile(r"\b(?:plt|ax|axes|fig|sns)\b")
IMPORTS = re.compile(r"^(?:from|import) ", re.M)
DTYPE = re.compile(r"^(?:Name: .*, |Length: .*, )*dtype: \w+$", re.M)
SHOWN = ("image/png", "text/html", "text/plain")  # the first that an output has


@dataclass
class Slide:
    """One slide: a heading, parts as (kind, content), and what the speaker says.

    Kinds are "text", "list", "exercise", "formula", "table" and "conclusion" (Markdown),
    "code" (source), "output" (MIME bundle), and "alt" (the text alternative of the picture
    before it). `asked` is the question alone, for a slide without room for what leads to it;
    `section` the heading of the section, where that of the slide is of a part of it.
    """

    heading: str
    parts: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    asked: str = ""
    section: str = ""
    written: bool = False  # by an author
    coded: bool = False  # its code is what is taught
    cells: list = field(default_factory=list)  # ids of the cells whose outputs it shows

    def kinds(self):
        """Return the kinds of the parts, in order."""
        return [kind for kind, _ in self.parts]

    def without(self, *kinds):
        """Take away the parts of some kinds."""
        self.parts = [part for part in self.parts if part[0] not in kinds]

    def n_words(self):
        """Count the words of the text above the rest."""
        return sum(n_words(content) for kind, content in self.parts if kind == "text")

    def shorten(self):
        """Leave of the opening only the question."""
        for number, (kind, _) in enumerate(self.parts):
            if kind == "text":
                self.parts[number] = ("text", self.asked)
                return


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
            written, id_ = _written(cell), cell.get("id")
            if heading and len(heading[1]) < 3 or not sections:
                sections.append(_opened(source, written))
                title = sections[-1][0].heading
            elif heading:
                sections[-1].append(_asked(heading[2], source, written))
            else:
                _told(sections[-1], source, written, id_)
            if heading:
                sections[-1][-1].cells.append(id_)
                if "conclusion" in written:
                    _conclude(sections[-1], written["conclusion"], written.get("under"))
        elif not _is_hidden(cell):
            _show(sections[-1], cell, source, (pictures or {}).get(index, "A figure."))
        for slide in sections[-1]:
            slide.section = title
    return [kept for kept in map(_without_empty, sections) if kept]


def _without_empty(section):
    """Leave out slides with little to see; the next one takes over what is said."""
    kept, said = [], []
    for slide in section:
        slide.parts = [part for part in slide.parts if part[1]]
        said += slide.notes
        if not _is_thin(slide):
            slide.notes, said = said, []
            kept.append(slide)
    if kept:
        kept[-1].notes += said
    return kept


def _is_thin(slide):
    """Whether a slide is empty, a sentence that asks nothing, or a printed line or two."""
    kinds = set(slide.kinds())
    if kinds == {"text"}:
        asks = any(content.rstrip("*").endswith("?") for _, content in slide.parts)
        return not (asks or slide.written)
    if not kinds <= {"code", "output", "alt"}:
        return False
    return all(
        "text/plain" in content and len(content["text/plain"].splitlines()) < LEAST_LINES
        for kind, content in slide.parts
        if kind == "output"
    )


def _written(cell):
    """Return what an author wrote for the slide of a cell."""
    written = dict(cell["metadata"].get("slide", {}))
    wrong = [k for k, value in written.items() if not isinstance(value, KEYS.get(k, ()))]
    if wrong:
        raise ValueError(f"cell {cell.get('id')}: slide metadata must not have {wrong}")
    return written


def _opened(source, written):
    """Return the first slides of a section."""
    heading, _, rest = source.partition("\n")
    title = re.sub(r"^#+ ", "", heading)
    if heading in SPOKEN:
        rest, first, exercise = rest.partition("### Exercise ")
        number, _, question = exercise.partition("\n")
        shown = [_asked(f"Exercise {number}", exercise, {})] if first and question else []
        return [Slide(title, [], [rest]), *shown]
    if heading in LISTED:
        items = re.findall(r"^- (.+(?:\n  .+)*)", rest, re.M)
        pages = [[]]
        for item in filter(None, map(_fitting_item, items)):
            if pages[-1] and n_words(" ".join([*pages[-1], item])) > MOST_LISTED:
                pages.append([])
            pages[-1].append(item)
        if heading == LISTED[0]:  # the rest of the aims is spoken
            del pages[1:]
        elif len(pages) == 2 and len(pages[1]) < len(pages[0]) - 1:
            pages = [pages[0][:-1], [pages[0][-1], *pages[1]]]
        made = [
            Slide(title, [("list", "\n".join(f"- {item}" for item in page))]) for page in pages
        ]
        made[0].notes.append(rest)
        return made
    return [_asked(title, source, written)]


def _asked(title, source, written):
    """Return the slide that opens a section: its question, and a formula or a table."""
    _, _, rest = source.partition("\n")
    if EXERCISE.match(title):
        return Slide(title, [("exercise", BOX.sub("", rest).strip())], _spoken(rest))
    text = _running(rest)
    slide = Slide(title, notes=_spoken(rest))
    opening, slide.asked = _opening(_sentences(text.replace("**", "")))
    if "lead" in written:
        opening = slide.asked = written["lead"]
        slide.written = True
    slide.parts.append(("text", opening))
    if written.get("skip"):
        return slide
    slide.parts += [("formula", formula) for formula in FORMULA.findall(rest)[:1]]
    slide.parts += [("table", table) for table in _tables(rest, "lead" in written)[:1]]
    return slide


def _opening(sentences):
    """Return the first question with the sentences that lead to it, and the question alone.

    Questions that follow at once belong to it. Where nothing is asked, it is the first
    sentence.
    """
    asked = [i for i, s in enumerate(sentences) if s.endswith("?") and n_words(s) <= MOST_WORDS]
    if not asked:
        told = [s for s in sentences if not ANNOUNCED.search(s)]
        first = told[0] if told and n_words(told[0]) <= MOST_WORDS else ""
        return first, first
    first = last = asked[0]
    while last + 1 in asked and n_words(" ".join(sentences[first : last + 2])) <= MOST_WORDS:
        last += 1
    question = " ".join(sentences[first : last + 1])
    while first and n_words(" ".join(sentences[first - 1 : last + 1])) <= MOST_WORDS:
        first -= 1
    return " ".join(sentences[first : last + 1]), question


def _told(section, source, written, id_):
    """Give the last slide of a section its conclusion, and the speaker the rest."""
    lecturers = LECTURERS.search(source)
    if lecturers or source.startswith("For lecturers:"):
        note = lecturers[1] if lecturers else source.removeprefix("For lecturers:")
        section[0].notes.insert(0, note.strip())
        return
    tables = [("table", table, "") for table in _tables(source, "lead" in written)[:1]]
    shown = [] if written.get("skip") else [*_formulas(source), *tables]
    by_author = "lead" in written
    for kind, content, said in shown:
        said = written.pop("lead", said)
        last = section[-1]
        if last.kinds() == ["text"] and _is_thin(last):  # nothing was asked
            last.parts = [("text", said)] if said else last.parts
            last.asked = said or last.asked
        elif last.kinds() != ["text"] or last.n_words() + n_words(said) > MOST_WORDS:
            section.append(last := Slide(last.heading, [("text", said)], asked=said))
        elif said:
            last.parts.append(("text", said))
        last.parts.append((kind, content))
        last.cells.append(id_)
        last.written |= by_author
    conclusion = written.get("conclusion", "" if written.get("skip") else _bold(source))
    if conclusion:
        _conclude(section, conclusion, written.get("under"))
    section[-1].notes += _spoken(source)


def _bold(source):
    """Return the last bold sentence of running text, if a slide can hold it."""
    bold = re.findall(r"\*\*(.+?)\*\*", _running(source), re.S)
    bold = [b for b in bold if n_words(b) >= LEAST_CONCLUSION]
    fits = bold and bold[-1].rstrip()[-1] not in "?:" and n_words(bold[-1]) <= MOST_WORDS
    return bold[-1] if fits else ""


def _formulas(source):
    """Return the first formula of running text with the sentence before it."""
    text = BOX.sub(" ", source)
    found = FORMULA.search(text)
    if not found:
        return []
    before = _sentences(_running(text[: found.start()]))[-1:]
    return [("formula", found[0], before[0] if before and n_words(before[0]) <= 30 else "")]


def _tables(source, wanted):
    """Return the tables of running text that a room can read, or that an author wants."""
    found = TABLE.findall(BOX.sub(" ", source))
    return [
        table.strip()
        for table in found
        if wanted
        or n_words(table.replace("|", " ")) <= MOST_TABLE_WORDS
        and len(table.strip().splitlines()) <= MOST_TABLE_ROWS + 2
    ]


def _conclude(section, conclusion, under):
    """Put a conclusion below what it is drawn from; code and the way to a question give way."""
    named = [slide for slide in section if under in slide.cells] if under else section[-1:]
    if not named:
        raise ValueError(f"no slide of the section shows the cell {under!r}")
    last = named[-1]
    if "exercise" in last.kinds():
        section.append(last := Slide(last.heading))
    last.without("conclusion")
    if last.n_words() + n_words(conclusion) > MOST_WORDS:
        last.shorten()
    if last.n_words() + n_words(conclusion) > MOST_WORDS:
        if last.written:
            raise ValueError(f"more than {MOST_WORDS} words with: {conclusion}")
        if last.kinds() == ["text"]:
            section.append(last := Slide(last.heading))
        else:
            last.without("text")
    if _n_lines(last) + n_words(conclusion) // 13 > MOST_JOINED and not last.coded:
        last.without("code")
    last.parts.append(("conclusion", conclusion))


def _show(section, cell, source, alt):
    """Show the outputs of a code cell, and its code if that is short and says something.

    What is not high joins the question that has just been asked.
    """
    written = _written(cell)
    bundles = _bundles(cell, MOST_OUTPUT_LINES if "lead" not in written else LONGEST_OUTPUT)
    asked = section[-1]
    machinery = IMPORTS.search(source) or "check(" in source
    if not bundles or written.get("skip") or machinery and "lead" not in written:
        return
    outputs = [part for bundle in bundles for part in (("output", bundle), ("alt", alt))]
    if asked.kinds() == ["exercise"]:
        asked.parts += outputs
        return
    drawn = any("image/png" in bundle for bundle in bundles)
    lines = [line for line in source.splitlines() if line.strip()]
    shown = len(lines) <= MOST_CODE_LINES and max(map(len, lines)) <= WIDEST_CODE
    says = bool(FITS.search(source)) or len(lines) == 1
    if not written.get(
        "code", shown and says and not drawn and not _is_machinery(cell, source)
    ):
        lines = []
    parts = [("text", written.get("lead", "")), ("code", "\n".join(lines)), *outputs]
    parts = [part for part in parts if part[1]]
    high = len(lines) + sum(map(_n_rows, bundles)) > MOST_JOINED and lines
    room = (MOST_BELOW_TEXT if drawn else MOST_WORDS) - n_words(written.get("lead", ""))
    opens = set(asked.kinds()) <= ({"text"} if drawn else {"text", "formula"}) and asked.parts
    high = high or _n_lines(asked) + sum(map(_n_rows, bundles)) > MOST_JOINED and not drawn
    if opens and asked.n_words() > room:
        asked.shorten()
    if opens and not high and asked.n_words() <= room:
        asked.parts += parts
    else:
        section.append(asked := Slide(asked.heading, parts))
        asked.asked = written.get("lead", "")
    asked.written |= "lead" in written
    asked.coded |= written.get("code", False)
    asked.cells.append(cell.get("id"))
    if "conclusion" in written:
        _conclude(section, written["conclusion"], written.get("under"))


def _n_rows(bundle):
    """Return about how many lines an output has."""
    return bundle.get("text/html", "").count("<tr") + len(
        bundle.get("text/plain", "").splitlines()
    )


def _n_lines(slide):
    """Return about how many lines the parts below its text have; a picture makes room."""
    lines = 0
    for kind, content in slide.parts:
        if kind == "output":
            lines += _n_rows(content)
        elif kind in ("code", "table"):
            lines += len(content.splitlines())
        elif kind == "formula":
            lines += 3
    return lines


def _is_machinery(cell, source):
    return "hide-input" in cell["metadata"].get("tags", []) or bool(DRAWS.search(source))


def _bundles(cell, most_lines):
    """Return each output of a cell as {MIME type: content}: pictures, or all that is short.

    What is printed in pieces is one output; lines on the type of a column are left out.
    """
    bundles = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        kind = next((kind for kind in SHOWN[:2] if kind in data), "text/plain")
        content = "".join(data.get(kind, output.get("text", "")))
        if kind == "text/plain":
            content = DTYPE.sub("", content).rstrip()
            if bundles and kind in bundles[-1]:
                bundles[-1] = {kind: f"{bundles[-1][kind]}\n{content}"}
                continue
        bundles.append({kind: content})
    drawn = [bundle for bundle in bundles if "image/png" in bundle]
    return drawn or [
        bundle
        for bundle in bundles
        if "text/plain" not in bundle
        or 0 < len(bundle["text/plain"].splitlines()) <= most_lines
    ]


def _is_hidden(cell):
    tags = set(cell["metadata"].get("tags", []))
    return bool(tags & {"proof", "nbval-ignore-output"}) or not cell.get("outputs")


def _running(source):
    """Return the running text: no boxes, formulas, tables, lists or quotations."""
    text = FORMULA.sub(" ", BOX.sub(" ", source))
    text = re.sub(r"```.*?```", " ", text, flags=re.S)
    other = r"\s*(?:[#|>!]|[-*] |\d+\. |Article: )"
    lines = [s for s in text.splitlines() if not re.match(other, s)]
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
