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


def test_the_question_is_shown_with_what_leads_to_it_and_the_rest_is_spoken(slides_of):
    [[slide]] = slides_of([QUESTION])
    assert slide.heading == "Levels"
    assert slide.parts == [("text", "People differ. Do they differ in level?")]
    assert "Look at the table." in slide.notes[0]
    long = " ".join(["word"] * 48)
    [[slide]] = slides_of([text(f"## Levels\n\nA {long}. So? Do they differ? By {long}?")])
    assert slide.parts == [("text", "So? Do they differ?")]


def test_a_sentence_that_asks_nothing_is_no_slide(slides_of):
    [section] = slides_of([text("## Levels\n\nPeople differ."), code("f()", "<table>")])
    assert kinds(section) == [["text", "code", "output", "alt"]]
    [section] = slides_of([text("## Levels\n\nThe next cell runs."), code("f()", "<table>")])
    assert kinds(section) == [["code", "output", "alt"]]
    assert slides_of([text("## Levels\n\nPeople differ.")]) == []


def test_a_printed_line_is_a_slide_only_with_a_conclusion(slides_of):
    printed = code("print(1)", "1", kind="text/plain")
    [section] = slides_of([QUESTION, code("f()", "<table>"), printed])
    assert len(section) == 1
    found = text("**One is the number of the groups that we found.**")
    [section] = slides_of([QUESTION, code("f()", "<table>"), printed, found])
    assert kinds(section)[1] == ["code", "output", "alt", "conclusion"]


def test_what_a_conclusion_stands_below_makes_room(slides_of):
    found = text("**" + " ".join(["word"] * 47) + ".**")
    [section] = slides_of([QUESTION, code("f()", "<table>" + "<tr>" * 10), found])
    assert kinds(section)[-1] == ["output", "alt", "conclusion"]
    [section] = slides_of([QUESTION, code("f()", "<table>"), found])
    assert kinds(section) == [["code", "output", "alt", "conclusion"]]


def test_an_exercise_is_shown_whole(slides_of):
    choices = "Which one?\n\n- **A** this\n- **B** that"
    cells = [text("## Exercises\n\nRun."), text(f"### Exercise 1.4\n\n{choices}")]
    [[slide]] = slides_of([*cells, code("check('1.4', answer)", "<b>")])
    assert slide.parts == [("exercise", choices)]
    [[slide]] = slides_of([*cells, code("table", "<table>")])
    assert slide.kinds() == ["exercise", "output", "alt"]


def test_tables_of_the_text_are_shown_if_a_room_can_read_them(slides_of):
    table = "| a | b |\n|---|---|\n| 1 | 2 |"
    [[slide]] = slides_of([text(f"## Levels\n\nDo they differ?\n\n{table}")])
    assert slide.parts[1] == ("table", table)
    long = table + "\n| 1 | 2 |" * 9
    [[slide]] = slides_of([text(f"## Levels\n\nDo they differ?\n\n{long}")])
    assert slide.kinds() == ["text"]


def test_a_table_comes_with_its_short_code_and_its_conclusion(slides_of):
    answer = "Yes, they differ by a lot in both years."
    found = text(f"Their means differ. **{answer}** More on that below. **Two words**")
    [section] = slides_of([QUESTION, code("fit.table()", "<table>"), found])
    assert kinds(section) == [["text", "code", "output", "alt", "conclusion"]]
    assert section[0].parts[-1] == ("conclusion", answer)
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


def test_a_list_is_spread_over_slides_and_the_aims_fill_one(slides_of):
    items = "\n".join("- " + " ".join(["word"] * 50) for _ in range(5))
    [section] = slides_of([text(f"## Summary\n\n{items}")])
    assert [content.count("- ") for slide in section for _, content in slide.parts] == [2, 2, 1]
    [section] = slides_of([text(f"## What you will be able to do\n\n{items}")])
    assert [content.count("- ") for slide in section for _, content in slide.parts] == [2]


def test_notes_for_lecturers_come_first(slides_of):
    box = "<details><summary>For lecturers</summary>\n\nTen minutes.\n\n</details>"
    [section] = slides_of([QUESTION, code("f()", "<b>"), text(box)])
    assert section[0].notes[0] == "Ten minutes."


def test_boxes_are_spoken_and_formulas_are_shown(slides_of):
    inside = "**This bold sentence is not a conclusion.**"
    box = f"<details><summary>Small print: ties</summary>\n\n{inside}\n</details>"
    [section] = slides_of([QUESTION, text(f"It is so:\n\n$$y = x$$\n\n{box}")])
    assert kinds(section) == [["text", "text", "formula"]]
    assert section[0].parts[1:] == [("text", "It is so:"), ("formula", "$$y = x$$")]
    assert "*Small print: ties.*" in section[0].notes[1]
    [section] = slides_of([QUESTION, code("f()", "<b>"), text("It is so:\n\n$$y = x$$")])
    assert section[1].parts == [("text", "It is so:"), ("formula", "$$y = x$$")]


def test_what_is_said_without_a_slide_is_said_with_the_next(slides_of):
    listed = text("## What you need\n\nNeeded: a course.")
    assert slides_of([listed]) == []
    [section] = slides_of([text("## Empty\n\n- only a list"), code("f()", "<b>")])
    assert "only a list" in section[0].notes[0]


def written(cell, id_="here", **slide):
    return cell | {"id": id_, "metadata": cell["metadata"] | {"slide": slide}}


def test_an_author_writes_what_stands_above_and_below(slides_of):
    table = written(code("a = 1\nf(a)", "<table>"), "table", lead="Each row is a person.")
    second = code("g()", "<table>")
    found = written(text("**So people differ in level and in slope, too.**"), under="table")
    [section] = slides_of([QUESTION, table, second, found])
    assert kinds(section) == [
        ["text", "text", "output", "alt", "conclusion"],
        ["code", "output", "alt"],
    ]
    shorter = written(
        text("**So people differ in level and in slope, too.**"), conclusion="No."
    )
    [section] = slides_of([QUESTION, table, shorter])
    assert section[0].parts[-1] == ("conclusion", "No.")
    [section] = slides_of([written(QUESTION, lead="People differ."), second])
    assert section[0].parts[0] == ("text", "People differ.")


def test_an_author_decides_on_code_and_cells(slides_of):
    shown = written(code("a = 1\nb = 2", "<b>"), code=True)
    assert "code" in kinds(slides_of([QUESTION, shown])[0])[0]
    hidden = written(code("lmer(f)", "<b>"), code=False)
    assert "code" not in kinds(slides_of([QUESTION, hidden])[0])[0]
    assert kinds(slides_of([QUESTION, written(code("f()", "<b>"), skip=True)])[0]) == [["text"]]


@pytest.mark.parametrize(
    "slide",
    [{"leed": "a"}, {"lead": 1}, {"code": "yes"}, {"under": "nowhere", "conclusion": "So."}],
)
def test_what_an_author_wrote_wrongly_is_said(slides_of, slide):
    with pytest.raises(ValueError, match=r"slide metadata|no slide of the section"):
        slides_of([QUESTION, written(text("A sentence."), **slide)])


def test_a_sentence_of_an_author_is_never_lost(slides_of):
    lead = " ".join(["word"] * 30)
    with pytest.raises(ValueError, match="more than 50 words"):
        slides_of([QUESTION, written(code("f()", "<b>"), lead=lead), text(f"**{lead}.**")])
