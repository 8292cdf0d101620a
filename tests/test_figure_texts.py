"""What the book and the slides say of a figure to those who cannot see it."""

from pathlib import Path

import pytest

CHAPTERS = Path(__file__).resolve().parent.parent / "chapters"


@pytest.fixture
def figure_texts(monkeypatch):
    monkeypatch.syspath_prepend(str(CHAPTERS / "_book"))
    return pytest.importorskip("figure_texts")


def markdown(text, slide="fragment"):
    metadata = {"slideshow": {"slide_type": slide}}
    return {"cell_type": "markdown", "metadata": metadata, "source": text}


def figure(code="plt.show()"):
    output = {"output_type": "display_data", "data": {"image/png": ""}, "metadata": {}}
    return {"cell_type": "code", "metadata": {}, "source": code, "outputs": [output]}


LONG = "The dots lie along the line at first, and leave it for good after the tenth day."


def test_a_figure_is_told_by_its_title_and_the_text_after_it(figure_texts):
    cells = [
        markdown("Before."),
        figure('ax.set_title("A bend")'),
        markdown(f"{LONG} And more."),
    ]
    assert figure_texts.figure_texts(cells) == {1: f"A bend. {LONG}"}


def test_notes_for_lecturers_are_not_what_to_see(figure_texts):
    cells = [figure(), markdown("For lecturers: a pause.", slide="notes"), markdown(LONG)]
    assert figure_texts.figure_texts(cells) == {0: LONG}


def test_cells_without_a_figure_have_no_text(figure_texts):
    table = {"cell_type": "code", "metadata": {}, "source": "t", "outputs": [{"data": {}}]}
    assert figure_texts.figure_texts([table, markdown(LONG)]) == {}


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (f"No. {LONG}", f"No. {LONG}"),  # a word alone says too little
        (f"## See\n\n- **{LONG}** And more.", f"See {LONG}"),
        (LONG.replace("line", "[line](a.ipynb#b)"), LONG),
        (LONG.replace("line", r"line $b_{0j}$"), LONG.replace("line", "line b_{0j}")),
    ],
)
def test_markup_is_taken_off(figure_texts, text, plain):
    assert figure_texts.first_sentences(text) == plain


def test_an_endless_sentence_is_cut_between_words(figure_texts):
    text = figure_texts.first_sentences("word " * 200)
    assert len(text) <= figure_texts.LONGEST + 2
    assert text.endswith("word …")
