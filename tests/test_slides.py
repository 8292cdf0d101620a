"""The lectures: every chapter's slides open without a network, and nothing is cut off."""

import json
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
SMALLEST = 0.7  # of the usual size, which is 24 px for text and 19 px for code

# Shows one slide after the other, with all its fragments, as a lecturer would.
WALK = """async () => {
  await window.slidesReady;
  const wrong = [], texts = [];
  let notes = 0, smallest = 1;
  const CONTENT = 'p, pre, ul, ol, table, img, mjx-container';
  const hidden = 'mjx-assistive-mml, mjx-assistive-mml *';
  for (const [number, slide] of Reveal.getSlides().entries()) {
    const {h, v} = Reveal.getIndices(slide);
    Reveal.slide(h, v, Infinity);
    const body = slide.querySelector('.body');
    const say = (what) => wrong.push(`slide ${number + 1}: ${what}`);
    const canvas = slide.getBoundingClientRect();
    if (!body.textContent.trim() && !body.querySelector('img')) say('is empty');
    for (const element of body.querySelectorAll('*')) {
      if (element.matches(hidden)) continue;
      const box = element.getBoundingClientRect();
      if (!box.width) continue;
      if (box.bottom > canvas.bottom + 1 || box.top < canvas.top - 1
          || box.right > canvas.right + 1 || box.left < canvas.left - 1)
        say(`${element.tagName} ${box.width | 0} x ${box.height | 0} reaches beyond it`);
      const clip = getComputedStyle(element);
      if (clip.overflowY !== 'visible' && element.scrollHeight > element.clientHeight + 2)
        say(`${element.tagName} hides a part of itself`);
      if (element.style.zoom) smallest = Math.min(smallest, element.style.zoom);
      if (element.matches('mjx-merror')) say(`formula: ${element.textContent}`);
    }
    if (body.querySelector('.cell:first-child.fragment')) say('begins empty');
    if (number && body.querySelector('h1, h2, h3') && !body.querySelector(CONTENT))
      say('is a heading alone');
    for (const image of body.querySelectorAll('img')) {
      if (!image.naturalWidth) say('has no picture');
      if (image.alt.length < 15 || image.alt.startsWith('No desc')) say(`alt: ${image.alt}`);
    }
    notes += slide.querySelectorAll('aside.notes').length;
    texts.push(body.textContent);
  }
  const scale = Reveal.getScale();
  return {wrong, notes, smallest, scale, n: texts.length, text: texts.join('')};
}"""


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Export all chapters once; return the folder."""
    folder = tmp_path_factory.mktemp("slides")
    command = [sys.executable, str(ROOT / "chapters" / "slides.py"), str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return folder


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


def slide_type(cell):
    return cell["metadata"].get("slideshow", {}).get("slide_type")


def squeezed(text):
    return "".join(text.split())


def test_one_command_exports_every_chapter(slides):
    wanted = {f"{path.stem}.slides.html" for path in CHAPTERS}
    assert {path.name for path in slides.glob("*.slides.html")} == wanted
    index = (slides / "index.html").read_text(encoding="utf-8")
    assert [name for name in wanted if f'href="{name}"' not in index] == []


def test_what_the_slides_load_is_beside_them(slides):
    for path in slides.glob("*.slides.html"):
        head = path.read_text(encoding="utf-8").split("</head>")[0]
        assert "//" not in head.replace("http-equiv", ""), path.name
    for file in ("reveal/dist/reveal.js", "mathjax/tex-chtml-full.js", "fit.js", "slides.css"):
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
    assert shown["smallest"] >= SMALLEST
    assert shown["n"] > 20

    cells = json.loads(chapter.read_text(encoding="utf-8"))["cells"]
    assert shown["notes"] == sum(slide_type(cell) == "notes" for cell in cells)
    text = squeezed(shown["text"])
    code = [
        "".join(cell["source"])
        for cell in cells
        if cell["cell_type"] == "code" and slide_type(cell) not in ("skip", "notes")
    ]
    assert code
    assert [source for source in code if squeezed(source) not in text] == []


def test_speaker_view_shows_the_notes(browser, slides):
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    complaints = listen(page)
    page.goto((slides / f"{CHAPTERS[0].stem}.slides.html").as_uri())
    note = page.evaluate(
        """async () => {
          await window.slidesReady;
          const slide = Reveal.getSlides().find((one) => one.querySelector('aside.notes'));
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
