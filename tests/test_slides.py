"""The lectures: every chapter's slides open without a network, and nothing is cut off."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from browser import chromium, listen

pytest.importorskip("sphinx_revealjs", reason="the extra `book` is not installed")

pytestmark = pytest.mark.slow  # builds everything, and opens it in a browser

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
WIDTH, HEIGHT = 1280, 720
LEAST_TEXT, LEAST_CODE = 32, 24  # px on the canvas, which are 24 and 18 pt
SMALLEST_TABLE = 0.5

# Shows one slide after the other, with all its fragments, as a lecturer would.
WALK = """async () => {
  await window.slidesReady;
  const wrong = [], told = {text: 99, code: 99, exercise: 99, table: 1, filled: 1};
  Object.assign(told, {words: 0, lines: 0});
  let notes = 0;
  const hidden = 'mjx-assistive-mml, mjx-assistive-mml *, aside.notes, aside.notes *';
  const size = (element) => parseFloat(getComputedStyle(element).fontSize);
  for (const [number, slide] of Reveal.getSlides().entries()) {
    const {h, v} = Reveal.getIndices(slide);
    Reveal.slide(h, v, Infinity);
    const say = (what) => wrong.push(`slide ${number + 1}: ${what}`);
    const canvas = slide.getBoundingClientRect();
    for (const element of slide.querySelectorAll('*')) {
      if (element.matches(hidden)) continue;
      const box = element.getBoundingClientRect();
      if (!box.width) continue;
      if (box.bottom > canvas.bottom + 1 || box.top < canvas.top - 1
          || box.right > canvas.right + 1 || box.left < canvas.left - 1)
        say(`${element.tagName} ${box.width | 0} x ${box.height | 0} reaches beyond it`);
      const clip = getComputedStyle(element);
      if (clip.overflowY !== 'visible' && element.scrollHeight > element.clientHeight + 2)
        say(`${element.tagName} hides a part of itself`);
      if (element.matches('mjx-merror')) say(`formula: ${element.textContent}`);
    }
    if (slide.matches(':not(:has(.text, .list, .exercise, .table, .formula, .output, img))'))
      say('is a heading alone');
    if (slide.querySelector('.fragment') === slide.querySelector('h2 + *')) say('begins empty');
    for (const image of slide.querySelectorAll('img')) {
      if (!image.naturalWidth) say('has no picture');
      if (image.alt.length < 15 || image.alt.startsWith('No desc')) say(`alt: ${image.alt}`);
      const ratio = image.naturalWidth / image.naturalHeight;
      const shown = Math.min(image.clientWidth, image.clientHeight * ratio);
      told.filled = Math.min(told.filled, Math.max(shown / 1280, shown / ratio / 720));
    }
    for (const one of slide.querySelectorAll('.text, .list, .conclusion'))
      told.text = Math.min(told.text, size(one));
    for (const one of slide.querySelectorAll('.code pre')) {
      told.code = Math.min(told.code, size(one));
      told.lines = Math.max(told.lines, one.textContent.trim().split('\\n').length);
    }
    for (const one of slide.querySelectorAll('.output, .formula, .table'))
      told.table = Math.min(told.table, size(one) / 32);
    for (const one of slide.querySelectorAll('.exercise'))
      told.exercise = Math.min(told.exercise, size(one));
    const texts = [...slide.querySelectorAll('.text, .conclusion')];
    const words = texts.map((one) => {
      const copy = one.cloneNode(true);
      copy.querySelectorAll('mjx-container, code').forEach((part) => part.replaceWith('x'));
      return copy.textContent.split(/\\s+/).filter(Boolean).length;
    });
    told.words = Math.max(told.words, words.reduce((sum, n) => sum + n, 0));
    notes += slide.querySelectorAll('aside.notes').length;
  }
  return {wrong, notes, n: Reveal.getTotalSlides(), scale: Reveal.getScale(), ...told};
}"""


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Export all chapters once; return the folder."""
    folder = tmp_path_factory.mktemp("slides")
    command = [sys.executable, str(ROOT / "chapters" / "_book" / "slides.py"), str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return folder


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


def test_one_command_exports_every_chapter(slides):
    wanted = {f"{path.stem}.slides.html" for path in CHAPTERS}
    assert {path.name for path in slides.glob("*.slides.html")} == wanted
    index = (slides / "index.html").read_text(encoding="utf-8")
    assert [name for name in wanted if f'href="{name}"' not in index] == []


def test_what_the_slides_load_is_beside_them(slides):
    for path in slides.glob("*.slides.html"):
        loaded = re.findall(
            r'<(?:script|link|img)[^>]+?(?:src|href)="([^"]{,40})', path.read_text()
        )
        assert len(loaded) > 7
        assert [address for address in loaded if re.match(r"\w+://|//", address)] == []
    for file in (
        "reveal/dist/reveal.js",
        "mathjax/tex-chtml-full.js",
        "slides.js",
        "slides.css",
    ):
        assert (slides / file).is_file()


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_slides_can_be_shown(browser, slides, chapter):
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    complaints = listen(page)
    page.goto((slides / f"{chapter.stem}.slides.html").as_uri())
    shown = page.evaluate(WALK)
    page.close()
    assert complaints == []
    assert shown["wrong"] == []
    assert shown["scale"] == 1
    assert shown["notes"] == shown["n"]
    assert 20 < shown["n"] < 45
    assert shown["text"] >= LEAST_TEXT
    assert shown["code"] >= LEAST_CODE
    assert shown["exercise"] >= LEAST_CODE
    assert shown["lines"] <= 8
    assert shown["words"] <= 50
    assert shown["table"] >= SMALLEST_TABLE
    assert shown["filled"] >= 0.6


def test_slides_can_be_printed(browser, slides):
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.goto((slides / f"{CHAPTERS[0].stem}.slides.html").as_uri() + "?print-pdf")
    page.wait_for_selector(".pdf-page")
    pages, n, cut = page.evaluate(
        """async () => {
          await window.slidesReady;
          const pages = [...document.querySelectorAll('.pdf-page')];
          const cut = pages.filter((page) => {
            const paper = page.getBoundingClientRect();
            return [...page.querySelectorAll('h2, .text, .output, .conclusion, img')].some(
              (part) => {
                const box = part.getBoundingClientRect();
                return box.width && (box.left < paper.left + 30 || box.top < paper.top + 20
                  || box.right > paper.right - 30 || box.bottom > paper.bottom);
              });
          });
          const told = cut.map((page) => page.textContent.slice(0, 200));
          return [pages.map((page) => page.clientHeight), Reveal.getTotalSlides(), told];
        }"""
    )
    page.close()
    assert pages == [HEIGHT - 1] * n  # reveal.js leaves a pixel
    assert cut == []


def test_speaker_view_shows_the_notes(browser, slides):
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    complaints = listen(page)
    page.goto((slides / f"{CHAPTERS[0].stem}.slides.html").as_uri())
    note = page.evaluate(
        """async () => {
          await window.slidesReady;
          const slide = Reveal.getSlides()[0];
          const {h, v} = Reveal.getIndices(slide);
          Reveal.slide(h, v, Infinity);
          return slide.querySelector('aside.notes').textContent;
        }"""
    )
    with page.expect_popup() as popup:
        page.keyboard.press("s")
    popup.value.wait_for_function(
        "note => document.body.textContent.includes(note.trim())", arg=note, timeout=10_000
    )
    assert complaints == []
    popup.value.close()
    page.close()
