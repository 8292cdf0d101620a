"""Glossary, article map, teaching guide and concept questions against their chapters.

The documents are plain Markdown. A link must lead to a file that exists, and its anchor to a
heading there; slugs are made as GitHub and MyST make them. What the documents say about a
chapter (a term, a section, minutes) must be in that chapter.
"""

import inspect
import json
import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import course_lib
from course_lib import diagnostics

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS, LIBRARY = ROOT / "chapters", ROOT / "course_lib"
DOCUMENTS = ("glossary.md", "article_map.md", "teaching.md", "concept_questions.md")
# A chapter has solutions under its name; a learner's copy of a chapter has none.
NOTEBOOKS = sorted(
    path for path in CHAPTERS.glob("*.ipynb") if (CHAPTERS / "solutions" / path.name).exists()
)
NUMBERS = [int(path.stem[:2]) for path in NOTEBOOKS]

LINK = re.compile(r"(?<!!)\[(?P<text>(?:[^\[\]`]|`[^`]*`)+)\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*$")

# The article's sections, and below them its parts, as the map numbers and names them.
ARTICLE = {
    "1": (
        "Opening: why plain regression is not enough",
        "Core idea",
        "The five steps",
        "The code",
        "Reading the result",
    ),
    "2.1": ("The core difference", "Choosing by the Hausman test", "When to use which"),
    "2.2": ("The model", "The assumptions"),
    "2.3": ("What nesting looks like", "Why to model it"),
    "2.4": ("The parts of a formula", "The example"),
    "2.5": ("AIC and BIC", "The likelihood-ratio test"),
    "3.1": ("Cleaning", "Coding levels"),
    "3.2": ("Reshaping", "Within and between"),
    "3.3": ("The picture", "What to look for"),
    "4.1": ("From fixed to random slopes", "Comparing the models"),
    "4.2": ("Why a random slope", "The matrix"),
    "4.3": ("Diagnosing", "Remedies", "Thresholds"),
    "4.4": ("Residuals", "Random effects"),
    "5": ("Explaining predictions", "In research", "Across disciplines"),
}
VERDICTS = ("holds", "holds with conditions", "does not hold")
LISTS = ("From lme4", "Symbols")  # parts of the glossary that are not entries
WORDS = ("econometrics", "Stata", "lme4", "statsmodels", "`course_lib`")


# Reading Markdown and notebooks.


def headings(markdown):
    """Return (level, text) of the headings outside fenced code, in order."""
    found, fenced = [], False
    for line in markdown.splitlines():
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced and (match := HEADING.match(line)):
            found.append((len(match[1]), match[2]))
    return found


def plain(text):
    """Return a heading or link text without its marks for code, emphasis and links."""
    return re.sub(r"[`*]", "", LINK.sub(lambda match: match["text"], text))


def slugs(texts):
    """Return the anchors of these headings: punctuation dropped, repeated ones numbered."""
    seen, result = set(), []
    for text in texts:
        base = re.sub(r"[^\w\- ]", "", plain(text).lower().replace(" ", "-"))
        slug, n = base, 0
        while slug in seen:
            n += 1
            slug = f"{base}-{n}"
        seen.add(slug)
        result.append(slug)
    return result


def links(markdown):
    """Return (text, file, anchor) of the links, without those to other sites."""
    parts = (
        (match["text"], *match["target"].partition("#")) for match in LINK.finditer(markdown)
    )
    return [(plain(text), file, anchor) for text, file, _, anchor in parts if "://" not in file]


def sections(markdown, level):
    """Return {heading: text below it} for the headings of one level."""
    pieces = re.split(rf"^#{{{level}}} (.+)$", markdown, flags=re.MULTILINE)
    assert len(pieces[1::2]) == len(set(pieces[1::2])), "a heading is there twice"
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


@cache
def markdown_of(path):
    """Return the Markdown of a document, or of all Markdown cells of a notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
    return "\n\n".join("".join(cell["source"]) for cell in cells)


@cache
def anchors(path):
    """Return {anchor: heading} of a file, for the levels that the book gives anchors to."""
    texts = [text for level, text in headings(markdown_of(path)) if level <= 3]
    return dict(zip(slugs(texts), map(plain, texts), strict=True)) | cell_anchors(path)


def cell_anchors(path):
    """Return {"cell-id=ID": heading of its section} for the cells of a notebook."""
    if path.suffix != ".ipynb":
        return {}
    found, heading = {}, ""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            texts = [text for level, text in headings("".join(cell["source"])) if level <= 3]
            heading = plain(texts[-1]) if texts else heading
        found[f"cell-id={cell['id']}"] = heading
    return found


def document(name):
    return markdown_of(CHAPTERS / name)


def chapter(number):
    found = [path for path in NOTEBOOKS if path.stem.startswith(f"{number:02d}_")]
    assert len(found) == 1, f"chapter {number}: found {[path.name for path in found]}"
    return found[0]


def without_marks(markdown):
    """Return text for searching: no emphasis, no line ends, one kind of apostrophe and dash."""
    text = re.sub(r"[*`]", "", markdown).replace("’", "'").casefold()
    return re.sub(r"\s+", " ", text)


def contains(markdown, term):
    """Say whether the term, or its plural, stands in the text as a word."""
    return re.search(rf"(?<!\w){re.escape(term.casefold())}s?(?!\w)", without_marks(markdown))


def broken(name, number=None):
    """Return what is wrong with a document's links to one chapter, or to all other files."""
    problems = []
    for text, file, anchor in links(document(name)):
        if number != (int(file[:2]) if re.match(r"0\d_", file) else None):
            continue
        path = CHAPTERS / (file or name)
        if not path.exists():
            problems.append(f"{file}: no such file ({text})")
        elif anchor and anchor not in anchors(path):
            problems.append(f"{file}#{anchor}: no such heading ({text})")
    return problems


# All documents.


@pytest.mark.parametrize("number", [None, *NUMBERS])
@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_to_a_file_and_a_heading(name, number):
    assert broken(name, number) == []


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_chapter_is_linked(name, number):
    assert any(file.startswith(f"{number:02d}_") for _, file, _ in links(document(name)))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_of_one_folder_name_the_section_in_words(name):
    """Where a site does not jump to a heading of a notebook, the reader looks for its name."""
    for text, file, anchor in links(document(name)):
        there = file.endswith(".ipynb") and (CHAPTERS / file).exists()
        heading = anchors(CHAPTERS / file).get(anchor) if there else None
        if heading and not heading.startswith("Exercise "):
            assert text.endswith(heading), f"{text!r} names another section than {heading!r}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_nothing_is_left_to_do(name):
    left = [line for line in document(name).splitlines() if "TODO" in line]
    assert left == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_are_plain_markdown(name):
    """No directive that GitHub would show raw."""
    for line in document(name).splitlines():
        assert not line.startswith((":::", "```{")), line


# The glossary.


def entries():
    parts = sections(document("glossary.md"), 2)
    return {name: text for name, text in parts.items() if name not in LISTS}


def bullets(name):
    return re.findall(r"^- (.+)$", sections(document("glossary.md"), 2)[name], re.MULTILINE)


def from_lme4():
    """Return [(R call, call here or "not here", what differs)] of the list for lme4 users."""
    return [
        re.fullmatch(r"(`.+`) → (.+?)(?:; (.+))", line).groups() for line in bullets(LISTS[0])
    ]


@pytest.fixture(scope="module")
def lme4_names():
    """What the list says that its calls are made of."""
    data, formula = course_lib.load("sleepstudy"), "Reaction ~ Days + (Days | Subject)"
    fits = {
        "fit": course_lib.lmer(formula, data),
        "large": course_lib.lmer(formula, data),
    }
    fits["small"] = course_lib.lmer("Reaction ~ Days + (1 | Subject)", data)
    tables = {"data": data, "new": data.head(3), "y": data["Reaction"].to_numpy() + 1}
    names = {"formula": formula, "rng": np.random.default_rng(1)}
    modules = (course_lib, diagnostics)
    library = {name: value for module in modules for name, value in vars(module).items()}
    public = {name: value for name, value in library.items() if not name.startswith("_")}
    return public | fits | tables | names


def test_glossary_is_alphabetical():
    names = list(entries())
    assert 40 <= len(names) <= 80
    assert names == sorted(names, key=str.casefold)


def test_lists_come_first():
    assert tuple(sections(document("glossary.md"), 2))[:2] == LISTS


def test_list_for_lme4_users_has_the_usual_calls():
    calls = " ".join(call for call, _, _ in from_lme4())
    for word in (
        *(
            "ranef",
            "coef",
            "fixef",
            "VarCorr",
            "confint",
            "anova",
            "drop1",
            "emmeans",
            "update",
        ),
        *("vcov", "sigma", "logLik", "REMLcrit", "getME", "hatvalues", "simulate", "refit"),
        *("bootMer", "re.form", "allow.new.levels", "isSingular", "rePCA", "allFit", "REML"),
        *("control", "na.action", "weights", "offset"),
    ):
        assert re.search(rf"\b{re.escape(word)}\b", calls), word


@pytest.mark.parametrize("call", from_lme4(), ids=lambda call: call[0])
def test_calls_for_lme4_users_run(call, lme4_names):
    _, here, _ = call
    if here == "not here" or "||" in here:
        return
    codes = re.findall(r"`([^`]+)`", here)
    assert codes
    for code in codes:
        assert eval(code.replace("rng=rng", "rng=rng, n_sim=50"), lme4_names) is not None


def test_list_for_lme4_users_says_the_default_interval():
    (differs,) = [text for call, _, text in from_lme4() if call == "`confint(fit)`"]
    default = inspect.signature(course_lib.LmerResult.conf_int).parameters["method"].default
    assert f"Without an argument it is `{default}`" in differs


def test_list_for_lme4_users_says_both_likelihood_ratios(lme4_names):
    small, large = lme4_names["small"], lme4_names["large"]
    by_ml = [
        course_lib.lmer(fit.formula, lme4_names["data"], reml=False) for fit in (small, large)
    ]
    (differs,) = [text for call, _, text in from_lme4() if call == "`anova(small, large)`"]
    for pair in ((small, large), by_ml):
        assert f"{course_lib.lr_test(*pair).statistic:.2f}" in differs


def test_symbols_are_in_a_chapter_that_is_named():
    latex = {"θ": r"\theta", "Λ": r"\Lambda", "λ": r"\lambda", "ρ": r"\rho", "σ": r"\sigma"}
    assert len(bullets("Symbols")) >= 8
    for line in bullets("Symbols"):
        symbols, text = line.split(": ", 1)
        numbers = re.findall(r"\b\d\b", " ".join(re.findall(r"[Cc]hapters? [\d, and]+", text)))
        paths = [chapter(int(number)) for number in numbers or NUMBERS]
        paths += [
            p for path in paths for p in (CHAPTERS / "deeper").glob(f"{path.stem[:2]}_*.ipynb")
        ]
        chapters = "".join(map(markdown_of, paths))
        for symbol in symbols.split(", "):
            assert latex.get(symbol, symbol) in chapters, f"{symbol}: {text}"


def test_fixed_effect_has_two_entries():
    meanings = [name for name in entries() if name.casefold().startswith("fixed effect")]
    assert len(meanings) == 2


@pytest.mark.parametrize("name", entries())
def test_entry_is_complete(name):
    chinese, meaning, words = entries()[name].strip().split("\n\n")
    assert re.search(r"[\u4e00-\u9fff]", chinese) or name in ("Grad-CAM", "SHAP")
    assert meaning.endswith(".")
    bullets = [line.removeprefix("- ").partition(": ") for line in words.splitlines()]
    assert tuple(word for word, _, _ in bullets) == WORDS
    assert all(value.strip() for _, _, value in bullets)


@pytest.mark.parametrize("name", entries())
def test_chapter_of_an_entry_contains_its_term(name):
    (_, file, anchor), *_ = links(entries()[name])
    assert (CHAPTERS / file).exists(), f"{file}: no such chapter"
    assert anchor
    term = name.partition(" (")[0]
    assert contains(markdown_of(CHAPTERS / file), term), f"{file} does not say {term!r}"


@pytest.mark.parametrize("name", entries())
def test_names_of_the_library_exist(name):
    (line,) = re.findall(r"^- `course_lib`: (.+)$", entries()[name], flags=re.MULTILINE)
    sources = [path.read_text(encoding="utf-8") for path in LIBRARY.rglob("*.py")]
    library = set(re.findall(r"\w+", "\n".join(sources)))
    for code in re.findall(r"`([^`]+)`", line):
        word = re.match(r"[A-Za-z_]*", code)[0]
        assert len(word) < 2 or word in library, f"the library has no {word!r}"


# The article map.


def claims(text):
    """Return (verdict, rest) of the claims in a part of the map."""
    return re.findall(r"^- \*\*(.+?)\*\*: (.+)$", text, flags=re.MULTILINE)


@pytest.mark.parametrize("number", ARTICLE)
def test_every_section_of_the_article_has_its_parts_and_claims(number):
    sections_of_map = sections(document("article_map.md"), 2)
    (text,) = [body for head, body in sections_of_map.items() if head.split()[0] == number]
    parts = sections(text, 3)
    assert tuple(parts) == tuple(f"{number} {part}" for part in ARTICLE[number])
    assert all(claims(body) for body in parts.values())


def test_map_has_no_other_sections():
    numbers = [head.split()[0] for head in sections(document("article_map.md"), 2)]
    assert numbers == list(ARTICLE)


@pytest.mark.parametrize("number", ARTICLE)
def test_every_claim_has_a_verdict_and_the_section_that_shows_it(number):
    sections_of_map = sections(document("article_map.md"), 2)
    (text,) = [body for head, body in sections_of_map.items() if head.split()[0] == number]
    found = claims(text)
    assert len(found) == len(re.findall(r"^- ", text, flags=re.MULTILINE)) >= 2
    for verdict, claim in found:
        assert verdict in VERDICTS, f"{verdict!r}: {claim}"
        assert links(claim), f"shows nothing: {claim}"
        assert all(anchor for _, _, anchor in links(claim)), f"names no section: {claim}"


def test_every_box_of_a_chapter_is_linked_from_the_map():
    """A section with a box "The article says" must be where the map says a claim is shown."""
    targets = [link[1:] for link in links(document("article_map.md"))]
    linked = {(f, anchors(CHAPTERS / f).get(a)) for f, a in targets if (CHAPTERS / f).is_file()}
    for path in NOTEBOOKS:
        for anchor in sections_with_a_box(markdown_of(path)):
            heading = anchors(path)[anchor]
            assert (path.name, heading) in linked, f"{path.name}: {heading} is not in the map"


def sections_with_a_box(markdown):
    """Return the anchors of the sections (levels 1–3) that hold a box."""
    lines = markdown.splitlines()
    marks = [(i, HEADING.match(line)) for i, line in enumerate(lines)]
    marks = [(i, match[2]) for i, match in marks if match and len(match[1]) <= 3]
    ends = [i for i, _ in marks[1:]] + [len(lines)]
    for slug, (start, _), end in zip(slugs([t for _, t in marks]), marks, ends, strict=True):
        if any(line.startswith("> **The article says**") for line in lines[start:end]):
            yield slug


# The teaching guide.


def timetable(number, minutes):
    """Return [(links of the row, its minutes)] of one timetable."""
    text = sections(document("teaching.md"), 3)[f"Chapter {number} in {minutes} minutes"]
    rows = re.findall(r"^\| (.+) \| (\d+) \|$", text, flags=re.MULTILINE)
    assert len(rows) == len(re.findall(r"^\|", text, flags=re.MULTILINE)) - 2, "an odd row"
    return [(links(cell), int(spent)) for cell, spent in rows]


@pytest.mark.parametrize("minutes", [45, 90])
@pytest.mark.parametrize("number", NUMBERS)
def test_timetable_names_sections_and_keeps_its_time(number, minutes):
    rows = timetable(number, minutes)
    assert 0.8 * minutes <= sum(spent for _, spent in rows) <= minutes
    path = chapter(number)
    for cell, _ in rows:
        assert cell, "a row without a section"
        for text, file, anchor in cell:
            assert file == path.name
            assert anchors(path).get(anchor) == text


@pytest.fixture
def slides_of(monkeypatch):
    monkeypatch.syspath_prepend(str(CHAPTERS / "_book"))
    yield __import__("extract").slides_of
    sys.modules.pop("extract", None)


def slides_shown(chapter_slides, row):
    """Count the slides of the sections that a row of a timetable names."""
    named = {text for text, _, _ in row}
    return sum(not named.isdisjoint(headings) for headings in chapter_slides)


@pytest.mark.parametrize("number", NUMBERS)
def test_pace_is_that_of_the_slides(number, slides_of):
    """The table of the pace is right to a quarter; how slides are taken may change a little."""
    text = sections(document("teaching.md"), 2)["Pace"]
    (told,) = re.findall(rf"^\| {number} \| (.+) \|$", text, flags=re.MULTILINE)
    told = [int(word) for word in told.split(" | ")]
    cells = json.loads(chapter(number).read_text(encoding="utf-8"))["cells"]
    shown = [
        {plain(slide.heading), plain(slide.section)}
        for section in slides_of(cells)
        for slide in section
    ]
    for minutes, slides, seconds in ((90, *told[:2]), (45, *told[2:])):
        rows = timetable(number, minutes)
        counts = [slides_shown(shown, cell) for cell, _ in rows]
        assert min(counts) > 0, "a row without a slide"
        pace = 60 * sum(spent for _, spent in rows) / sum(counts)
        assert sum(counts) == pytest.approx(slides, rel=0.25)
        assert pace == pytest.approx(seconds, rel=0.25)


def test_rubric_adds_up_to_100_points():
    text = sections(document("teaching.md"), 2)["Project"]
    points = [int(n) for n in re.findall(r"^\| [^|]+ \| (\d+) \|", text, flags=re.MULTILINE)]
    assert len(points) >= 5
    assert sum(points) == 100


def test_syllabus_has_twelve_weeks_and_every_chapter():
    text, _, reading = sections(document("teaching.md"), 2)["Twelve weeks"].partition("### ")
    weeks = re.findall(r"^\| (\d+) (.+) \| (.+) \| (.+) \| (.+) \|$", text, re.MULTILINE)
    assert [int(week) for week, *_ in weeks] == list(range(1, 13))
    linked = {file for _, what, *_ in weeks for _, file, _ in links(what)}
    assert linked >= {path.name for path in NOTEBOOKS}
    assert len(re.findall(r"^\| \d+ \| ", reading, re.MULTILINE)) >= 10


@pytest.mark.parametrize("number", NUMBERS)
def test_minutes_at_home_are_those_of_the_chapter(number):
    pattern = r"(\d+) minutes to read\b.*?(\d+) minutes to exercise"
    told = [
        (head, body)
        for head, body in sections(document("teaching.md"), 2).items()
        if head.startswith(f"Chapter {number}. ")
    ]
    ((_, body),) = told
    here, there = re.search(pattern, body), re.search(pattern, markdown_of(chapter(number)))
    assert here, "the guide does not name the minutes"
    assert here.groups() == there.groups()


@pytest.mark.parametrize("number", NUMBERS)
def test_homework_and_questions(number):
    parts = sections(document("teaching.md"), 3)
    found = anchors(chapter(number))
    homework = links(parts[f"Chapter {number}: homework"])
    assert any(found[anchor].startswith(f"Exercise {number}.") for _, _, anchor in homework)
    questions = parts[f"Chapter {number}: questions that come"]
    assert 3 <= len(re.findall(r"^- \*\*.+[?.]\*\* \S", questions, re.MULTILINE)) <= 5


# The concept questions.


def concept_questions(number):
    """Return (name, options, right letter, letters explained, section's file) of a chapter."""
    parts = sections(document("concept_questions.md"), 2)
    ((_, text),) = [part for part in parts.items() if part[0].startswith(f"Chapter {number}. ")]
    found = []
    for piece in text.split("**Question ")[1:]:
        asked, answer = piece.split("<details><summary>Answer</summary>\n\n")
        assert answer.rstrip().endswith("</details>")
        options = re.findall(r"^- \*\*([A-D])\.\*\* \S", asked, re.MULTILINE)
        right = re.match(r"\*\*([A-D])\*\* is right\. \S", answer)
        wrong = re.findall(r"^- ([A-D]): \S", answer, re.MULTILINE)
        ((_, file, _),) = links(answer)
        found.append((piece.partition(".")[0], options, right and right[1], wrong, file))
    return found


@pytest.mark.parametrize("number", NUMBERS)
def test_concept_questions_say_what_is_behind_each_letter(number):
    found = concept_questions(number)
    assert [name for name, *_ in found] == [f"{number}{k}" for k in "abcde"[: len(found)]]
    assert 4 <= len(found) <= 5
    for name, options, right, wrong, file in found:
        assert options == list("ABCD"), name
        assert sorted([right, *wrong]) == options, name
        assert file == chapter(number).name, name


def test_right_answers_are_spread_over_the_letters():
    right = [letter for number in NUMBERS for _, _, letter, _, _ in concept_questions(number)]
    assert all(right.count(letter) >= len(right) / 6 for letter in "ABCD")
    assert all(len(set(right[i : i + 3])) > 1 for i in range(len(right) - 2))


# The readers above, on text small enough to check by eye.


def test_slugs_are_those_of_github():
    heads = ["A Q–Q plot, with `lmer`", 'Why "fixed"? One', "Time", "Time", "Time 1"]
    expected = ["a-qq-plot-with-lmer", "why-fixed-one", "time", "time-1", "time-1-1"]
    assert slugs(heads) == expected


def test_headings_in_fences_do_not_count():
    assert headings("# A\n```\n# no\n```\n### B c") == [(1, "A"), (3, "B c")]


def test_links_skip_pictures_and_other_sites():
    text = "![p](a.png) [w](https://x.org/#y) [with `a[0]`](b.md#c) [d](e.ipynb)"
    assert links(text) == [("with a[0]", "b.md", "c"), ("d", "e.ipynb", "")]


@pytest.mark.parametrize(
    ("text", "found"),
    [("two **random\nslopes**.", True), ("a Random slope", True), ("random slopers", False)],
)
def test_contains_looks_for_whole_words(text, found):
    assert bool(contains(text, "Random slope")) is found
