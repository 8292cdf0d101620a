"""The lectures: every chapter as reveal.js slides that need no network.

``python3 start.py slides`` writes one page per chapter, and an index, into build/slides;
``python3 start.py slides FOLDER`` writes them elsewhere. Open a page in a
browser; S shows the speaker's notes, F fills the screen, ESC gives the overview.

What is shown is taken from the stored notebooks by `extract`. How high a table is only a
browser knows, so `static/slides.js` sets it smaller where it must, when the page opens.
"""

import html
import json
import re
import shutil
import sys
from pathlib import Path

from bs4 import BeautifulSoup
from nbconvert.filters import Highlight2HTML, markdown2html
from pygments.formatters import HtmlFormatter

from extract import slides_of
from figure_texts import figure_texts
from vendored import copy_mathjax, copy_reveal

CHAPTERS = Path(__file__).resolve().parent.parent
STATIC = CHAPTERS / "_book" / "static"
DEFAULT = CHAPTERS.parent / "build" / "slides"
HEAD = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<link rel="icon" href="favicon.svg">
"""
INDEX = """<link rel="stylesheet" href="slides.css">
<body class="index">
<h1>Multilevel models in Python: the slides</h1>
<ol>
{body}
</ol>
<p>S: speaker's notes · F: full screen · ESC: overview · space: the next step</p>
"""
PAGE = """<link rel="stylesheet" href="reveal/dist/reveal.css">
<link rel="stylesheet" href="reveal/dist/theme/white.css">
<link rel="stylesheet" href="slides.css">
<style>{colours}</style>
<script>
window.MathJax = {{
  tex: {{ inlineMath: [["$", "$"], ["\\\\(", "\\\\)"]], processEscapes: true }},
  options: {{ enableMenu: false }},
}};
</script>
<script defer src="mathjax/tex-chtml-full.js"></script>
<script defer src="reveal/dist/reveal.js"></script>
<script defer src="reveal/plugin/notes/notes.js"></script>
<script defer src="slides.js"></script>
<body class="preparing">
<div class="reveal"><div class="slides">
{body}
</div></div>
"""
NUMBER = re.compile(r"^[^A-Za-z]*\d[^A-Za-z]*(?:e[-+]?\d+)?$|^nan$", re.I)
highlight = Highlight2HTML()


def main(folder):
    """Write the slides of all chapters into `folder`; return how many chapters there are."""
    folder.mkdir(parents=True, exist_ok=True)
    copy_reveal(folder / "reveal")
    copy_mathjax(folder / "mathjax")
    for file in ("slides.js", "slides.css", "favicon.svg"):
        shutil.copy(STATIC / file, folder)
    items = []
    for path in sorted(CHAPTERS.glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        title = re.sub(r"^# Chapter \d+\. ", "", "".join(cells[0]["source"]).splitlines()[0])
        name = f"{path.stem}.slides.html"
        (folder / name).write_text(page(cells, title), encoding="utf-8")
        items.append(f'<li><a href="{name}">{html.escape(title)}</a></li>')
    index = HEAD.format(title="Slides") + INDEX.format(body="\n".join(items))
    (folder / "index.html").write_text(index, encoding="utf-8")
    return len(items)


def page(cells, title):
    """Return the page of a chapter."""
    sections = slides_of(cells, figure_texts(cells))
    stacks = ["\n".join(map(slide_html, section)) for section in sections]
    body = "\n".join(f"<section>\n{stack}\n</section>" for stack in stacks)
    return HEAD.format(title=html.escape(title)) + PAGE.format(body=body, colours=colours())


def slide_html(slide):
    """Return one slide."""
    alt = next((content for kind, content in slide.parts if kind == "alt"), "")
    asked = slide.parts[0][0] == "text"  # then the output is the answer: it comes second
    parts = [
        part_html(kind, content, alt, _later(kind, asked, len(slide.parts)))
        for kind, content in slide.parts
        if kind != "alt"
    ]
    notes = "\n".join(markdown(note) for note in slide.notes)
    inside = "\n".join(parts)
    heading = f"<h2>{markdown(slide.heading).removeprefix('<p>').removesuffix('</p>')}</h2>"
    return f'<section>\n{heading}\n{inside}\n<aside class="notes">{notes}</aside>\n</section>'


def _later(kind, asked, n_parts):
    """Return the class of what the speaker's next click shows."""
    waits = (kind == "output" and asked) or (kind == "conclusion" and n_parts > 1)
    return " fragment" if waits else ""


def part_html(kind, content, alt, later):
    """Return a part of a slide."""
    if kind == "code":
        return f'<div class="code">{highlight(content)}</div>'
    if kind == "conclusion":
        return f'<div class="conclusion{later}">{markdown(content)}</div>'
    if kind in ("text", "list", "exercise", "formula", "table"):
        made = markdown(content).replace("\\|", "|")  # in a table a bar is written so
        return f'<div class="{kind}">{made}</div>'
    if "image/png" in content:
        source = "".join(content["image/png"].split())
        start = (
            f'<img class="picture{later}" alt="{html.escape(alt)}" src="data:image/png;base64,'
        )
        return f'{start}{source}">'
    if "text/html" in content:
        shown = for_a_room(content["text/html"])
    else:
        shown = f"<pre>{html.escape(content['text/plain'])}</pre>"
    return f'<div class="output{later}">{shown}</div>'


def for_a_room(shown):
    """Return tables without what nobody reads from afar.

    An index that only counts goes; of a fitted model its variances and its fixed effects stay.
    Words stand to the left.
    """
    soup = BeautifulSoup(shown, "html.parser")
    tables = soup.select("table")
    if len(tables) > 2:  # a fitted model
        for part in soup.select("p"):
            part.decompose()
        for table in tables[2:]:
            table.decompose()
        soup.div["class"] = "fit"
    for table in tables[:2]:
        _name_the_index(table)
        _drop_counting(table)
        _align_words(table)
    return str(soup)


def _name_the_index(table):
    """Put the names of an index, which have a row of their own, into the row above."""
    rows = [row.select("th") for row in table.select("thead tr")]
    if len(rows) < 2:
        return
    above, names = rows[-2:]
    n = sum(bool(cell.get_text(strip=True)) for cell in names)
    if any(cell.get_text(strip=True) for cell in [*above[:n], *names[n:]]):
        return
    for cell, name in zip(above[:n], names[:n], strict=True):
        cell.string = name.get_text(strip=True)
    names[0].parent.decompose()


def _drop_counting(table):
    """Take away an index without a name that only counts."""
    counted = [row.select_one("th") for row in table.select("tbody tr")]
    corners = [row.select_one("th") for row in table.select("thead tr")]
    numbers = [cell.get_text(strip=True) for cell in counted if cell]
    named = any(cell and cell.get_text(strip=True) for cell in corners)
    if not named and len(numbers) == len(counted) and all(map(str.isdecimal, numbers)):
        for cell in filter(None, [*counted, *corners]):
            cell.decompose()


def _align_words(table):
    """Mark the cells and the heads of columns that hold words."""
    rows = [row.select("td") for row in table.select("tbody tr")]
    words = [[not NUMBER.search(cell.get_text(strip=True)) for cell in row] for row in rows]
    for row, told in zip(rows, words, strict=True):
        for cell, is_word in zip(row, told, strict=True):
            if is_word:
                cell["class"] = "words"
    heads = [row.select("th") for row in table.select("thead tr")][-1:]
    if heads and rows and len({len(row) for row in rows}) == 1:
        for number in range(1, min(len(words[0]), len(heads[0])) + 1):
            if all(row[-number] for row in words):
                heads[0][-number]["class"] = "words"


def markdown(text):
    """Return Markdown as HTML; links lead to other chapters' slides, or keep their words."""
    linked = re.sub(r"\[([^\]]+)\]\((?!\w+:)([^)]+)\)", _link, text)
    made = re.sub(r'<a class="anchor-link".*?</a>', "", markdown2html(linked), flags=re.S)
    return made.strip()


def _link(found):
    words, target = found.groups()
    chapter = re.fullmatch(r"(\d\d_\w+)\.ipynb(?:#.*)?", target)
    return f"[{words}]({chapter[1]}.slides.html)" if chapter else words


def colours():
    """Return the style sheet for the code's colours."""
    return HtmlFormatter(style="default").get_style_defs(".highlight")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    print(f"{main(target)} chapters as slides in {target}")
