"""What the slides take from a notebook, and what they leave to the speaker."""

import sys
from pathlib import Path

import pytest

BOOK = Path(__file__).resolve().parent.parent / "chapters" / "_book"


@pytest.fixture
def slides_of(monkeypatch):
    monkeypatch.syspath_prepend(str(BOOK))
    yield __import__("extract").slides_of
    sys.modules.pop("extract", None)


def text(source):
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def code(source, shown, *tags, kind="text/html"):
    output = {"output_type": "display_data", "data": {kind: shown}, "metadata": {}}
    metadata = {"tags": list(tags)}
    return {"cell_type": "code", "metadata": metadata, "source": source, "outputs": [output]}


QUESTION = text("## Levels\n\nPeople differ. Do they differ in level?\n\nLook at the table.")


def kinds(section):
    return [[kind for kind, _ in slide.parts] for slide in section]


def test_the_question_stands_alone_and_the_rest_is_spoken(slides_of):
    [[slide]] = slides_of([QUESTION])
    assert slide.heading == "Levels"
    assert slide.parts == [("text", "Do they differ in level?")]
    assert "Look at the table." in slide.notes[0]


def test_a_table_comes_with_its_short_code_and_its_conclusion(slides_of):
    found = text("Their means differ. **Yes, they differ by a lot.** More on that below.")
    [section] = slides_of([QUESTION, code("fit.table()", "<table>"), found])
    assert kinds(section) == [["text", "code", "output", "alt", "conclusion"]]
    assert section[0].parts[-1] == ("conclusion", "Yes, they differ by a lot.")
    [section] = slides_of([QUESTION, code("fit.table()", "<tr>" * 12)])
    assert kinds(section) == [["text"], ["code", "output", "alt"]]


def test_a_picture_joins_its_question_without_the_code_that_draws_it(slides_of):
    [section] = slides_of(
        [QUESTION, code("ax.plot(x)", "abc", kind="image/png")], {1: "A rise."}
    )
    assert kinds(section) == [["text", "output", "alt"]]
    assert section[0].parts[-1] == ("alt", "A rise.")


def test_machinery_proofs_imports_and_stubs_are_not_shown(slides_of):
    hidden = [
        code("assert True", "<b>", "proof"),
        code("for k in tqdm(range(3)): ...", "100%", "nbval-ignore-output"),
        code("import numpy as np\n1", "<b>"),
        code('check("1.1", answer)', "<b>"),
    ]
    assert kinds(slides_of([QUESTION, *hidden])[0]) == [["text"]]
    [section] = slides_of([QUESTION, code("simulate()", "<b>", "hide-input")])
    assert kinds(section) == [["text", "output", "alt"]]


@pytest.mark.parametrize("source", ["\n".join("abcdefghi"), "x = " + "1 + " * 30 + "1"])
def test_long_or_wide_code_is_left_out(slides_of, source):
    [section] = slides_of([QUESTION, code(source, "<b>")])
    assert "code" not in sum(kinds(section), [])


def test_a_list_is_spread_over_slides_of_fifty_words(slides_of):
    items = "\n".join("- " + " ".join(["word"] * 20) for _ in range(5))
    [section] = slides_of([text(f"## Summary\n\n{items}")])
    assert [content.count("- ") for slide in section for _, content in slide.parts] == [2, 2, 1]


def test_notes_for_lecturers_come_first(slides_of):
    box = "<details><summary>For lecturers</summary>\n\nTen minutes.\n\n</details>"
    [section] = slides_of([QUESTION, code("f()", "<b>"), text(box)])
    assert section[0].notes[0] == "Ten minutes."


def test_boxes_are_spoken_and_formulas_are_shown(slides_of):
    inside = "**This bold sentence is not a conclusion.**"
    box = f"<details><summary>Small print: ties</summary>\n\n{inside}\n</details>"
    [section] = slides_of([QUESTION, text(f"It is so:\n\n$$y = x$$\n\n{box}")])
    assert section[1].parts == [("formula", "$$y = x$$")]
    assert "*Small print: ties.*" in section[1].notes[0]


def test_what_is_said_without_a_slide_is_said_with_the_next(slides_of):
    listed = text("## What you need\n\nNeeded: a course.")
    assert slides_of([listed]) == []
    [section] = slides_of([text("## Empty\n\n- only a list"), code("f()", "<b>")])
    assert "only a list" in section[0].notes[0]
