"""What every notebook must look like: the rules of CONTRIBUTING.md that a machine can check.

A rule is a function of a notebook (the parsed JSON) and of its file's stem; it returns what is
wrong, as sentences. The lower half of this file breaks a small good notebook in one place at a
time and shows that the rule concerned, and only that one, finds it.
"""

import ast
import copy
import json
import re
import statistics
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "chapters"
CHAPTERS = sorted(FOLDER.glob("*.ipynb"))
SOLUTIONS = sorted((FOLDER / "solutions").glob("*.ipynb"))

HEADINGS = (
    "## What you will be able to do",
    "## What you need",
    "## Time",
    "## Summary",
    "## Exercises",
    "## Further reading",
)
SLIDE_TYPES = {"slide", "subslide", "fragment", "skip", "notes", "-"}
MOST_BYTES = 500_000
MEDIAN_CODE_LINES, MOST_CODE_LINES = 5, 20
IGNORED_SHARE = 0.05
RNG = "rng = np.random.default_rng("
CHECK = re.compile(r"""\bcheck\(\s*["'](\d+\.\d+)["']""")
DOI = re.compile(r"(doi\.org/|doi:\s?)10\.\d{4,9}/\S")
MACHINE_PATH = re.compile(
    r"(?<![\w.:/-])/(?:home|root|work|Users|private|opt|usr|var|mnt|srv|tmp)/(?!ipykernel_\d+/)"
    r"|/\S*/site-packages/"
    r"|\b[A-Za-z]:\\{1,2}(?:Users|Windows|Program|Temp|AppData)"
)


# Reading a notebook.


def source(cell):
    return "".join(cell["source"])


def cells_of(notebook, kind):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def tags(cell):
    return set(cell["metadata"].get("tags", []))


def slide_type(cell):
    return cell["metadata"].get("slideshow", {}).get("slide_type")


def python(cell):
    """Return the cell's source without lines of IPython magic."""
    lines = source(cell).splitlines()
    return "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in lines)


def code_lines(cell):
    """Count the lines that are neither blank nor comments."""
    lines = [line.strip() for line in source(cell).splitlines()]
    return sum(bool(line) and not line.startswith("#") for line in lines)


def output_texts(cell):
    """Return all that the cell's outputs say, by MIME type, without the pictures."""
    for output in cell["outputs"]:
        yield "".join(output.get("text", ""))
        for kind, data in output.get("data", {}).items():
            if not kind.startswith("image/"):
                yield "".join(data) if isinstance(data, str | list) else json.dumps(data)


def n_figures(cell):
    return sum("image/png" in output.get("data", {}) for output in cell["outputs"])


def find_heading(notebook, heading):
    """Return the index of the markdown cell with a line that is `heading`, or None."""
    for index, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "markdown" and heading in source(cell).splitlines():
            return index
    return None


def after(notebook, heading):
    """Return the text from `heading` to the next heading of its level, over all cells."""
    text = "\n".join(source(cell) for cell in cells_of(notebook, "markdown"))
    found = re.search(rf"^{re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.M | re.S)
    return found[1].strip() if found else ""


def chapter_number(stem):
    return int(stem[:2])


def checks_in(cells):
    return [name for cell in cells for name in CHECK.findall(source(cell))]


# Rules for chapters and solutions.


def file_name(_, stem):
    if not re.fullmatch(r"\d\d_[a-z0-9_]+", stem):
        yield "the name must be two digits, then words in lower case joined by underscores"


def kernel(notebook, _):
    if notebook["metadata"].get("kernelspec", {}).get("name") != "python3":
        yield "the kernelspec must be python3"


def execution_counts(notebook, _):
    """Nbval never compares a cell without a count; a gap shows another order of running."""
    counts = [cell["execution_count"] for cell in cells_of(notebook, "code")]
    if counts != list(range(1, len(counts) + 1)):
        yield f"execution counts must be 1, 2, …, {len(counts)}; they are {counts}"


def error_outputs(notebook, _):
    for number, cell in enumerate(cells_of(notebook, "code")):
        failed = any(output["output_type"] == "error" for output in cell["outputs"])
        if failed and "raises-exception" not in tags(cell):
            yield f"code cell {number} ends in an error"


def code_length(notebook, _):
    lengths = [code_lines(cell) for cell in cells_of(notebook, "code")]
    if min(lengths, default=1) == 0:
        yield f"code cell {lengths.index(0)} has no code"
    if statistics.median(lengths or [0]) > MEDIAN_CODE_LINES:
        yield f"the median cell has more than {MEDIAN_CODE_LINES} code lines"
    if max(lengths, default=0) > MOST_CODE_LINES:
        where = lengths.index(max(lengths))
        yield f"code cell {where} has {max(lengths)} lines, more than {MOST_CODE_LINES}"


def slides(notebook, _):
    for index, cell in enumerate(notebook["cells"]):
        if slide_type(cell) not in SLIDE_TYPES:
            yield f"cell {index} has no slideshow type"


def ignored_outputs(notebook, _):
    code = cells_of(notebook, "code")
    marked = [c for c in code if "nbval-ignore-output" in tags(c)]
    most = max(1, int(IGNORED_SHARE * len(code)))
    if len(marked) > most:
        yield f"{len(marked)} cells are tagged nbval-ignore-output; {most} may be"
    for number, cell in enumerate(code):
        if "nbval-skip" in tags(cell) or re.search(r"#\s*(NBVAL|PYTEST_VAL)", source(cell)):
            yield f"code cell {number} has nbval-skip or an nbval comment; use the one tag"


def pictures(notebook, _):
    for number, cell in enumerate(cells_of(notebook, "code")):
        if any("image/svg+xml" in output.get("data", {}) for output in cell["outputs"]):
            yield f"code cell {number} has an SVG: nbval compares it, and it is large"
        if n_figures(cell) > 1:
            yield f"code cell {number} has more than one figure"


def figures_are_told(notebook, _):
    """Ask before each figure and say after it what to see; speaker notes do not count."""
    shown = [cell for cell in notebook["cells"] if slide_type(cell) != "notes"]
    markdown = [cell["cell_type"] == "markdown" for cell in shown]
    for index, cell in enumerate(shown):
        if cell["cell_type"] == "code" and n_figures(cell):
            if not markdown[max(index - 1, 0)]:
                yield f"no markdown before the figure of: {source(cell):.40}"
            if not any(markdown[index + 1 : index + 2]):
                yield f"no markdown after the figure of: {source(cell):.40}"


def machine_paths(notebook, _):
    for number, cell in enumerate(cells_of(notebook, "code")):
        for text in [source(cell), *output_texts(cell)]:
            found = MACHINE_PATH.search(text)
            if found:
                yield f"code cell {number} shows a path of one machine: {found[0]}"


def imports(notebook, _):
    for number, cell in enumerate(cells_of(notebook, "code")):
        for node in ast.walk(ast.parse(python(cell))):
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                yield f"code cell {number} imports *"


# Rules for chapters.


def title(notebook, stem):
    first = notebook["cells"][0]
    wanted = f"# Chapter {chapter_number(stem)}. "
    if first["cell_type"] != "markdown" or not source(first).startswith(wanted):
        yield f'the first cell must begin "{wanted}"'
    if not re.search(r"Article: (chapter|section)s? \d", source(first)):
        yield 'the first cell must say "Article: chapter …" or "Article: section …"'


def fixed_parts(notebook, _):
    places = [find_heading(notebook, heading) for heading in HEADINGS]
    absent = [h for h, place in zip(HEADINGS, places, strict=True) if place is None]
    for heading in absent:
        yield f'there is no "{heading}"'
    if not absent and places != sorted(places):
        yield f"the fixed parts must come in the order {HEADINGS}"
    for heading in HEADINGS:
        if heading not in absent and not after(notebook, heading):
            yield f'there is nothing under "{heading}"'


def needs(notebook, _):
    text = after(notebook, "## What you need").lower()
    if "needed" not in text or "helpful" not in text:
        yield '"## What you need" must tell what is needed from what is helpful'


def time(notebook, _):
    text = after(notebook, "## Time")
    for doing in ("read", "exercise"):
        if not re.search(rf"\d+ minutes to {doing}", text):
            yield f'"## Time" must say "NN minutes to {doing}"'


def one_rng(notebook, _):
    code = "\n".join(source(cell) for cell in cells_of(notebook, "code"))
    if code.count(RNG) != 1 or code.count("default_rng(") != 1:
        yield f'"{RNG}…)" must be there exactly once'
    if re.search(r"np\.random\.(?!default_rng\b|Generator\b)\w+", code):
        yield "random numbers must come from rng, not from np.random's global state"


def article_box(notebook, _):
    """Find the box in one blockquote, with the cell that proves it just before or after."""
    cells = notebook["cells"]
    for index, cell in enumerate(cells):
        boxed = r"^> \*\*The article says\*\*.*\n(?:>.*\n)*?> \*\*The data say\*\*"
        if cell["cell_type"] == "markdown" and re.search(boxed, source(cell), re.M):
            beside = cells[max(index - 1, 0) : index] + cells[index + 1 : index + 2]
            if any(cell["cell_type"] == "code" for cell in beside):
                return
            yield f'no code cell beside the "article says" box in cell {index}'
            return
    yield 'there is no box "> **The article says** … > **The data say** …"'


def exercises(notebook, stem):
    start = find_heading(notebook, "## Exercises") or 0
    number = chapter_number(stem)
    names = checks_in(notebook["cells"][start:])
    wanted = [f"{number}.{k}" for k in range(1, len(names) + 1)]
    if names != wanted or not 4 <= len(names) <= 6:
        yield f'there must be 4 to 6 exercises check("{number}.1", …) in order; got {names}'
    assigned = [
        node
        for cell in notebook["cells"][start:]
        if cell["cell_type"] == "code"
        for node in ast.walk(ast.parse(python(cell)))
        if isinstance(node, ast.Assign) and getattr(node.value, "value", None) is ...
    ]
    if len(assigned) < len(names):
        yield "each exercise needs its stub, answer = ..."


def dois(notebook, _):
    if not DOI.search(after(notebook, "## Further reading")):
        yield '"## Further reading" must give a DOI'


def way_on(notebook, _):
    last = notebook["cells"][-1]
    if last["cell_type"] != "markdown" or not re.search(
        r"Previous: .*Next: ", source(last), re.S
    ):
        yield 'the last cell must be the line "Previous: … · Next: …"'


# Rules for solutions.


def solution_title(notebook, stem):
    wanted = f"# Solutions to chapter {chapter_number(stem)}. "
    if not source(notebook["cells"][0]).startswith(wanted):
        yield f'the first cell must begin "{wanted}"'


def solved(notebook, stem):
    """Require under each "## Exercise N.k" a last code cell that checks, and is right."""
    section, last = None, {}
    for cell in notebook["cells"]:
        heading = re.search(r"^## Exercise (\d+\.\d+)", source(cell), re.M)
        if cell["cell_type"] == "markdown" and heading:
            section = heading[1]
            last[section] = None
        elif cell["cell_type"] == "code" and section:
            last[section] = cell
    number = chapter_number(stem)
    wanted = [f"{number}.{k}" for k in range(1, len(last) + 1)]
    if list(last) != wanted or not last:
        yield f'the sections must be "## Exercise {number}.1" and so on; got {list(last)}'
    for name, cell in last.items():
        if cell is None or checks_in([cell]) != [name]:
            yield f'exercise {name} must end in check("{name}", …)'
        elif not any(text.startswith("Right:") for text in output_texts(cell)):
            yield f"the solution of exercise {name} is not right"


COMMON = (
    file_name,
    kernel,
    execution_counts,
    error_outputs,
    code_length,
    slides,
    ignored_outputs,
    pictures,
    figures_are_told,
    machine_paths,
    imports,
)
CHAPTER = (
    title,
    fixed_parts,
    needs,
    time,
    one_rng,
    article_box,
    exercises,
    dois,
    way_on,
)
SOLUTION = (solution_title, solved)


def complaints(notebook, stem, rules):
    """Return what the rules find, as (rule, sentence)."""
    return [(rule.__name__, text) for rule in rules for text in rule(notebook, stem)]


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def by_stem(paths):
    return [pytest.param(path, id=f"{path.parent.name}/{path.stem}") for path in paths]


# The notebooks of the course.


def test_there_is_a_chapter():
    assert CHAPTERS


def test_every_chapter_has_solutions_and_the_other_way_round():
    assert [path.name for path in CHAPTERS] == [path.name for path in SOLUTIONS]


@pytest.mark.parametrize("path", by_stem(CHAPTERS))
def test_chapter_keeps_the_rules(path):
    assert complaints(load(path), path.stem, COMMON + CHAPTER) == []


@pytest.mark.parametrize("path", by_stem(SOLUTIONS))
def test_solutions_keep_the_rules(path):
    assert complaints(load(path), path.stem, COMMON + SOLUTION) == []


@pytest.mark.parametrize("path", by_stem(SOLUTIONS))
def test_solutions_solve_the_exercises_of_their_chapter(path):
    exercises_of = checks_in(cells_of(load(FOLDER / path.name), "code"))
    assert sorted(set(checks_in(cells_of(load(path), "code")))) == sorted(exercises_of)


@pytest.mark.parametrize("path", by_stem(CHAPTERS + SOLUTIONS))
def test_notebook_file_is_small(path):
    assert path.stat().st_size < MOST_BYTES


# The rules themselves: good notebooks pass; each way to break one is found by its rule.


def markdown(text, slide="slide"):
    metadata = {"slideshow": {"slide_type": slide}}
    return {"cell_type": "markdown", "metadata": metadata, "source": text}


def code(text, data=None, tag=None):
    metadata = {"slideshow": {"slide_type": "fragment"}, "tags": [tag] if tag else []}
    outputs = [{"output_type": "display_data", "data": data, "metadata": {}}] if data else []
    return {
        "cell_type": "code",
        "metadata": metadata,
        "source": text,
        "outputs": outputs,
        "execution_count": None,
    }


def notebook_of(*cells):
    counts = iter(range(1, len(cells) + 1))
    for cell in cells:
        if cell["cell_type"] == "code":
            cell["execution_count"] = next(counts)
    return {"cells": list(cells), "metadata": {"kernelspec": {"name": "python3"}}}


def good_chapter():
    return notebook_of(
        markdown("# Chapter 7. Diagnose a model\n\nArticle: section 4.4"),
        markdown("## What you will be able to do\n\n- diagnose"),
        markdown("## What you need\n\nNeeded: chapter 6. Helpful: matrices."),
        markdown("## Time\n\nAbout 45 minutes to read and 30 minutes to exercise."),
        code("import numpy as np\n\nrng = np.random.default_rng(7)"),
        markdown("## Draw\n\nHow large is it?"),
        code("draw()", {"image/png": "iVBOR", "text/plain": "<Figure>"}),
        markdown("Speak slowly.", slide="notes"),
        markdown("It is large."),
        code("assert size > 1"),
        markdown("> **The article says** it is small.\n>\n> **The data say** it is large."),
        markdown("## Summary\n\nIt is large."),
        markdown("## Exercises\n\n### Exercise 7.1\n\nHow large is it?"),
        *(code(f'answer = ...\ncheck("7.{k}", answer)') for k in range(1, 5)),
        markdown("## Further reading\n\nBates et al. (2015), doi:10.18637/jss.v067.i01"),
        markdown("Previous: [Chapter 6](06_x.ipynb) · Next: [Chapter 8](08_x.ipynb)"),
    )


def good_solutions():
    return notebook_of(
        markdown("# Solutions to chapter 7. Diagnose a model"),
        markdown("## Exercise 7.1\n\nThe variance."),
        code("variance = 2"),
        code('check("7.1", variance)', {"text/plain": "Right: it is.", "text/markdown": "R"}),
    )


def test_good_notebooks_pass():
    assert complaints(good_chapter(), "07_diagnostics", COMMON + CHAPTER) == []
    assert complaints(good_solutions(), "07_diagnostics", COMMON + SOLUTION) == []


def replace(old, new):
    """Return a change of a notebook: `old` becomes `new` in every source."""

    def change(notebook):
        assert any(old in source(cell) for cell in notebook["cells"])
        for cell in notebook["cells"]:
            cell["source"] = source(cell).replace(old, new)

    return change


def edit(index, **fields):
    """Return a change of a notebook: these fields of one code cell."""
    return lambda notebook: cells_of(notebook, "code")[index].update(fields)


def give_output(index, data, kind="display_data"):
    output = {"output_type": kind, "data": data, "metadata": {}}
    return edit(index, outputs=[output])


def mark(index, tag):
    return lambda notebook: cells_of(notebook, "code")[index]["metadata"].update(tags=[tag])


def chain(*changes):
    return lambda notebook: [change(notebook) for change in changes]


def swap(first, second):
    def change(notebook):
        cells = notebook["cells"]
        cells[first], cells[second] = cells[second], cells[first]

    return change


PNG = {"image/png": "iVBOR"}
LONG = "\n".join("x = 1" for _ in range(21))
BREAK_CHAPTER = {
    "kernel": [lambda nb: nb["metadata"].update(kernelspec={"name": "my-env"})],
    "execution_counts": [edit(1, execution_count=None), edit(1, execution_count=9)],
    "error_outputs": [give_output(2, {}, kind="error")],
    "code_length": [
        edit(2, source=LONG),
        edit(2, source="# a comment only"),
        replace("answer = ...", "x = 1\n" * 5 + "answer = ..."),
    ],
    "slides": [lambda nb: nb["cells"][0].update(metadata={})],
    "ignored_outputs": [
        chain(mark(1, "nbval-ignore-output"), mark(2, "nbval-ignore-output")),
        mark(2, "nbval-skip"),
        edit(2, source="# NBVAL_IGNORE_OUTPUT\nassert size > 1"),
    ],
    "pictures": [
        give_output(2, {"image/svg+xml": "<svg/>"}),
        lambda nb: cells_of(nb, "code")[1]["outputs"].append({"data": PNG, "output_type": "x"}),
    ],
    "figures_are_told": [
        lambda nb: nb["cells"].pop(8),
        lambda nb: nb["cells"].pop(5),
        lambda nb: nb["cells"][8]["metadata"]["slideshow"].update(slide_type="notes"),
    ],
    "machine_paths": [
        give_output(2, {"text/plain": "read /home/ada/course/data.csv"}),
        give_output(2, {"text/html": "C:\\Users\\ada"}),
        give_output(2, {"application/json": {"file": ["/home/x"]}}),
        give_output(2, {"text/plain": "/conda/lib/site-packages/numpy/a.py:1: Warning"}),
        edit(2, source="pd.read_csv('/work/data.csv')"),
        edit(2, outputs=[{"output_type": "stream", "text": ["in /tmp/x.py"]}]),
    ],
    "imports": [edit(2, source="from numpy import *")],
    "title": [replace("Chapter 7", "Chapter 8"), replace("Article: section 4.4", "")],
    "fixed_parts": [
        replace("## Summary", "## In short"),
        replace("## Summary\n\nIt is large.", "## Summary"),
        swap(11, 2),
    ],
    "needs": [replace("Helpful", "Useful")],
    "time": [replace("45 minutes to read", "an hour to read")],
    "one_rng": [
        replace("rng = np.random.default_rng(7)", "np.arange(3)"),
        edit(2, source="rng = np.random.default_rng(8)"),
        edit(2, source="np.random.seed(1)"),
    ],
    "article_box": [
        replace("> **The article says**", "The article says"),
        replace("> **The data say**", "> But"),
        swap(10, 11),
    ],
    "exercises": [
        replace('check("7.4", answer)', "answer"),
        replace('check("7.4"', 'check("7.5"'),
        replace('check("7.', 'check("6.'),
        replace("answer = ...", "answer = 1"),
    ],
    "dois": [replace("doi:10.18637/jss.v067.i01", "in a journal")],
    "way_on": [replace("Next: ", "Then: "), lambda nb: nb["cells"].pop()],
}
BREAK_SOLUTIONS = {
    "solution_title": [replace("# Solutions to chapter 7", "# Solutions")],
    "solved": [
        replace('check("7.1", variance)', "variance"),
        replace('check("7.1"', 'check("7.2"'),
        replace("## Exercise 7.1", "## Exercise 7.2"),
        replace("## Exercise 7.1", "## Answer"),
        give_output(1, {"text/plain": "Not yet: no."}),
        lambda nb: nb["cells"].append(code("more = 1") | {"execution_count": 3}),
    ],
}


def each(breaks):
    return [
        pytest.param(rule, change, id=f"{rule}-{number}")
        for rule, changes in breaks.items()
        for number, change in enumerate(changes)
    ]


@pytest.mark.parametrize(("rule", "change"), each(BREAK_CHAPTER))
def test_broken_chapter_is_found_by_its_rule(rule, change):
    notebook = copy.deepcopy(good_chapter())
    change(notebook)
    assert {name for name, _ in complaints(notebook, "07_x", COMMON + CHAPTER)} == {rule}


@pytest.mark.parametrize(("rule", "change"), each(BREAK_SOLUTIONS))
def test_broken_solutions_are_found_by_their_rule(rule, change):
    notebook = copy.deepcopy(good_solutions())
    change(notebook)
    assert {name for name, _ in complaints(notebook, "07_x", COMMON + SOLUTION)} == {rule}


def test_bad_file_name_is_found():
    found = complaints(good_chapter(), "07 Diagnostics", (file_name,))
    assert [name for name, _ in found] == ["file_name"]


def test_every_rule_was_broken_once():
    broken = {*BREAK_CHAPTER, *BREAK_SOLUTIONS, "file_name"}
    assert {rule.__name__ for rule in COMMON + CHAPTER + SOLUTION} == broken


def test_error_and_ignored_output_are_fine_where_tagged():
    notebook = good_chapter()
    chain(give_output(2, {}, kind="error"), mark(2, "raises-exception"))(notebook)
    mark(1, "nbval-ignore-output")(notebook)
    assert complaints(notebook, "07_x", COMMON + CHAPTER) == []


@pytest.mark.parametrize(
    "text",
    [
        "/tmp/ipykernel_123/456.py:1: UserWarning",  # sanitised by nbval
        "https://example.org/home/course/",
        "site-packages/numpy/a.py:1: RuntimeWarning",
        "m/s, 3/4, </td>/var",
    ],
)
def test_harmless_text_is_no_machine_path(text):
    assert MACHINE_PATH.search(text) is None
