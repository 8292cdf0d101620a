"""The linter's rules: good notebooks pass; each way to break one is found by its rule."""

import base64
import copy
import struct

import pytest
from notebook_rules import (
    CHAPTER,
    COMMON,
    DEEPER,
    MACHINE_PATH,
    SOLUTION,
    WRITTEN,
    cells_of,
    complaints,
    exercises_differ,
    file_name,
    source,
)


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
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
        if cell["cell_type"] == "code":
            cell["execution_count"] = next(counts)
    metadata = {"kernelspec": {"name": "python3"}, "language_info": {"file_extension": ".py"}}
    return {"cells": list(cells), "metadata": metadata}


def png(width):
    """Return the head of a picture, as notebooks store it."""
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, 500)
    return {"image/png": base64.b64encode(head).decode()}


ALL = COMMON + CHAPTER + WRITTEN


def good_chapter():
    return notebook_of(
        markdown("# Chapter 7. Diagnose a model\n\nArticle: section 4.4"),
        markdown("## What you will be able to do\n\n- diagnose"),
        markdown("## What you need\n\nNeeded: chapter 6. Helpful: matrices."),
        markdown("## Time\n\nAbout 5 minutes to read and 30 minutes to exercise."),
        code("import numpy as np\n\nrng = np.random.default_rng(7)"),
        markdown("## Draw\n\nHow large is it?"),
        code("draw()", {**png(1200), "text/plain": "<Figure>"}),
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


def good_deeper():
    return notebook_of(
        markdown("# Deeper: the matrices\n\nBack to [chapter 7](../07_diagnostics.ipynb)."),
        code("draw()"),
    )


def test_good_notebooks_pass():
    assert complaints(good_deeper(), "07_matrices", COMMON + DEEPER + WRITTEN) == []
    assert complaints(good_chapter(), "07_diagnostics", ALL) == []
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


def hide(index, tag, flag):
    return lambda notebook: cells_of(notebook, "code")[index]["metadata"].update(
        tags=[tag], jupyter={flag: True}
    )


def chain(*changes):
    return lambda notebook: [change(notebook) for change in changes]


def swap(first, second):
    def change(notebook):
        cells = notebook["cells"]
        cells[first], cells[second] = cells[second], cells[first]

    return change


PNG = png(1200)
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
    "language": [lambda nb: nb["metadata"].update(language_info={"name": "python"})],
    "flags": [
        mark(2, "proof"),
        lambda nb: cells_of(nb, "code")[1]["metadata"].update(jupyter={"source_hidden": True}),
        lambda nb: cells_of(nb, "code")[1]["metadata"].update(
            jupyter={"source_hidden": True}, tags=["guess"]
        ),
    ],
    "cell_words": [replace("How large is it?", "How large is it? " + "word " * 120)],
    "guesses": [chain(*(hide(k, "guess", "outputs_hidden") for k in range(4)))],
    "minutes": [replace("5 minutes to read", "45 minutes to read")],
    "readable_ids": [lambda nb: nb["cells"][0].update(id="bbea88a7")],
    "title": [replace("Chapter 7", "Chapter 8"), replace("Article: section 4.4", "")],
    "fixed_parts": [
        replace("## Summary", "## In short"),
        replace("## Summary\n\nIt is large.", "## Summary"),
        swap(11, 2),
    ],
    "needs": [replace("Helpful", "Useful")],
    "time": [replace("5 minutes to read", "an hour to read")],
    "generators": [
        edit(2, source="rng = np.random.default_rng(7)"),
        edit(2, source="rng = np.random.default_rng()"),
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
BREAK_DEEPER = {
    "deeper_title": [replace("# Deeper: ", "# "), replace(".ipynb", "")],
    "generators": [replace("draw()", "np.random.default_rng()")],
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
    assert {name for name, _ in complaints(notebook, "07_x", ALL)} == {rule}


@pytest.mark.parametrize(("rule", "change"), each(BREAK_DEEPER))
def test_broken_deeper_notebook_is_found_by_its_rule(rule, change):
    notebook = copy.deepcopy(good_deeper())
    change(notebook)
    assert {name for name, _ in complaints(notebook, "07_x", COMMON + DEEPER)} == {rule}


@pytest.mark.parametrize(("rule", "change"), each(BREAK_SOLUTIONS))
def test_broken_solutions_are_found_by_their_rule(rule, change):
    notebook = copy.deepcopy(good_solutions())
    change(notebook)
    assert {name for name, _ in complaints(notebook, "07_x", COMMON + SOLUTION)} == {rule}


def test_bad_file_name_is_found():
    found = complaints(good_chapter(), "07 Diagnostics", (file_name,))
    assert [name for name, _ in found] == ["file_name"]


def test_every_rule_was_broken_once():
    broken = {*BREAK_CHAPTER, *BREAK_DEEPER, *BREAK_SOLUTIONS, "file_name"}
    assert {rule.__name__ for rule in ALL + SOLUTION + DEEPER} == broken


def test_error_and_ignored_output_are_fine_where_tagged():
    notebook = good_chapter()
    chain(give_output(2, {}, kind="error"), mark(2, "raises-exception"))(notebook)
    mark(1, "nbval-ignore-output")(notebook)
    assert complaints(notebook, "07_x", ALL) == []


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


def test_solutions_of_other_exercises_are_found():
    chapter, solutions = good_chapter(), good_solutions()
    assert len(list(exercises_differ(chapter, solutions))) == 1
    solutions["cells"][-1]["source"] = "\n".join(f'check("7.{k}", 1)' for k in range(1, 5))
    assert list(exercises_differ(chapter, solutions)) == []


def test_a_notebook_may_have_several_generators_with_seeds_of_their_own():
    notebook = good_chapter()
    edit(2, source="rng = np.random.default_rng([7, 2])")(notebook)
    assert complaints(notebook, "07_x", ALL) == []
