"""The one counter, on a small notebook of known lengths."""

import base64
import struct

from notebook_counts import Counts, count

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
