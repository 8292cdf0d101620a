"""What every notebook must look like: the rules of CONTRIBUTING.md that a machine can check.

A rule is a function of a notebook (the parsed JSON) and of its file's stem; it yields what is
wrong, as sentences.
"""

import ast
import json
import re
import statistics

from notebook_counts import count, n_running_words

HEADINGS = (
    "## What you will be able to do",
    "## What you need",
    "## Time",
    "## Summary",
    "## Exercises",
    "## Further reading",
)
SLIDE_TYPES = {"slide", "subslide", "fragment", "skip", "notes", "-"}
MOST_BYTES = 2_000_000
MEDIAN_CODE_LINES, MOST_CODE_LINES = 5, 20
IGNORED_SHARE = 0.05
CHECK = re.compile(r"""\bcheck\(\s*["'](\d+\.\d+)["']""")
DOI = re.compile(r"(doi\.org/|doi:\s?)10\.\d{4,9}/\S")
FLAGS = {"proof": "source_hidden", "hide-input": "source_hidden", "guess": "outputs_hidden"}
MOST_GUESSES, MOST_CELL_WORDS, NEAR_MINUTES = 3, 120, 5
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


def language(notebook, _):
    """Without the extension a script export of JupyterLab has no .py."""
    if notebook["metadata"].get("language_info", {}).get("file_extension") != ".py":
        yield "language_info must be full: save the notebook in JupyterLab"


def flags(notebook, _):
    """A tag hides a cell in the book, a flag in JupyterLab: keep them together."""
    for number, cell in enumerate(cells_of(notebook, "code")):
        flagged = {flag for flag, on in cell["metadata"].get("jupyter", {}).items() if on}
        wanted = {FLAGS[tag] for tag in tags(cell) & set(FLAGS)}
        if flagged != wanted:
            told = f"want the flags {sorted(wanted)}, not {sorted(flagged)}"
            yield f"code cell {number}: its tags {told}"


# Rules for chapters and deeper notebooks that are rewritten (chapters/… by prose.md).


def cell_words(notebook, _):
    heading = ""
    for cell in cells_of(notebook, "markdown"):
        heading = source(cell).splitlines()[0] if source(cell).startswith("#") else heading
        front = heading in HEADINGS or source(cell).startswith("# ")
        if not front and n_running_words(cell) > MOST_CELL_WORDS:
            yield f'{n_running_words(cell)} words in the cell "{source(cell)[:30]}…"'


def guesses(notebook, _):
    marked = [cell for cell in cells_of(notebook, "code") if "guess" in tags(cell)]
    if len(marked) > MOST_GUESSES:
        yield f"{len(marked)} cells are tagged guess; {MOST_GUESSES} may be"


def minutes(notebook, _):
    counts = count(notebook)
    read = counts.words / 65 + counts.code_lines / 14 + counts.pictures
    told = re.search(r"(\d+) minutes to read", after(notebook, "## Time"))
    if told and abs(int(told[1]) - read) > NEAR_MINUTES + 2.5:
        yield f"says {told[1]} minutes to read; by its length it takes {read:.0f}"


def readable_ids(notebook, _):
    """A link leads to a cell by its id: what says something is not changed by accident."""
    machine = [c["id"] for c in notebook["cells"] if re.fullmatch(r"[0-9a-f-]{8,}", c["id"])]
    if machine:
        yield f"{len(machine)} cells have ids that say nothing, as {machine[0]}"


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


def generators(notebook, _):
    """Each simulating cell makes its own generator, so that any cell may be run twice."""
    code = "\n".join(source(cell) for cell in cells_of(notebook, "code"))
    seeds = re.findall(r"default_rng\(([^()]*)\)", code)
    for seed in sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        yield f"two generators have the seed {seed or 'of the clock'}"
    if "" in seeds:
        yield "a generator has no seed"
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


def deeper_title(notebook, _):
    first = source(notebook["cells"][0])
    if not first.startswith("# Deeper: ") or ".ipynb" not in first:
        yield 'the first cell must begin "# Deeper: " and lead back to the chapter'


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
    language,
    flags,
)
WRITTEN = (cell_words, guesses, minutes, readable_ids)
CHAPTER = (
    title,
    fixed_parts,
    needs,
    time,
    generators,
    article_box,
    exercises,
    dois,
    way_on,
)
SOLUTION = (solution_title, solved)
DEEPER = (deeper_title, generators)


def complaints(notebook, stem, rules):
    """Return what the rules find, as (rule, sentence)."""
    return [(rule.__name__, text) for rule in rules for text in rule(notebook, stem)]


def exercises_differ(chapter, solutions):
    """Yield a sentence if the solutions are not those of the chapter's exercises."""
    asked, solved_ones = (
        sorted(set(checks_in(cells_of(notebook, "code")))) for notebook in (chapter, solutions)
    )
    if asked != solved_ones:
        yield f"the chapter asks {asked}, its solutions answer {solved_ones}"
