"""The one counter, on a small notebook of known lengths."""

import base64
import struct
from dataclasses import replace

import pytest
from notebook_counts import Counts, count, excesses

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">II", 640, 480)


def markdown(text, slide="slide"):
    metadata = {"slideshow": {"slide_type": slide}}
    return {"cell_type": "markdown", "metadata": metadata, "source": text}


def code(text, outputs=(), **metadata):
    return {"cell_type": "code", "metadata": metadata, "source": text, "outputs": list(outputs)}


def test_everything_is_counted_once():
    picture = {"data": {"image/png": base64.b64encode(PNG).decode()}}
    long = "word " * 25 + "end."
    notebook = {
        "cells": [
            markdown("# A heading\n\nThree words here."),
            markdown("Not counted at all.", slide="notes"),
            markdown("<details><summary>For lecturers</summary> Not for learners.</details>"),
            markdown("A [link](somewhere.ipynb) with $x + y$ and `code()` (one two)."),
            markdown(long),
            markdown("It is (a b c d e f g h i) long."),
            code("# a comment\n\nx = 1\nassert x", [picture]),
            code("assert True\n" + "y = " + "1 + " * 30 + "1"),
            code("assert x", tags=["proof"]),
            code("z = 1\nw = 2", jupyter={"source_hidden": True}),
        ]
    }
    assert count(notebook) == Counts(
        words=3 + 3 + 8 + 26 + 12,
        code_lines=5,
        hidden_lines=3,
        asserts=2,
        wide_lines=1,
        long_sentences=1,
        long_parentheses=1,
        pictures=1,
        narrowest=640,
    )


AT_THE_LIMIT = Counts(4000, 330, 150, 0, 0, 0, 0, pictures=1, narrowest=1000)


def test_a_chapter_at_the_limits_is_not_too_long():
    assert list(excesses(AT_THE_LIMIT)) == []
    assert list(excesses(replace(AT_THE_LIMIT, pictures=0, narrowest=0))) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("words", 4001),
        ("code_lines", 331),
        ("hidden_lines", 151),
        ("asserts", 1),
        ("wide_lines", 1),
        ("narrowest", 999),
    ],
)
def test_each_excess_is_found(name, value):
    (told,) = excesses(replace(AT_THE_LIMIT, **{name: value}))
    assert str(value) in told
