"""The book: it builds without a warning, holds together, and can be read on two screens."""

import functools
import re
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import chromium, listen

pytest.importorskip("myst_nb", reason="the extra `book` is not installed")
bs4 = pytest.importorskip("bs4")

pytestmark = pytest.mark.slow  # builds everything, and opens it in a browser

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "chapters"
SIZES = {"desktop": (1280, 800), "telephone": (390, 844)}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the book once; return its folder and what Sphinx said."""
    folder = tmp_path_factory.mktemp("book") / "html"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    command += ["-c", str(CHAPTERS / "_book")]
    run = subprocess.run(
        [*command, str(CHAPTERS), str(folder)],
        capture_output=True,
        text=True,
        cwd=folder.parent,
    )
    return folder, run


@pytest.fixture(scope="module")
def book(built):
    folder, run = built
    if not (folder / "index.html").exists():
        pytest.fail(run.stderr)
    return folder


@pytest.fixture(scope="module")
def pages(book):
    """Return each page of the book, parsed, by its address in the book."""
    return {
        path.relative_to(book).as_posix(): bs4.BeautifulSoup(
            path.read_text(encoding="utf-8"), "html.parser"
        )
        for path in sorted(book.rglob("*.html"))
        if "_static" not in path.parts
    }


def test_builds_without_a_warning(built):
    _, run = built
    assert run.stderr == ""
    assert run.returncode == 0


def test_building_leaves_nothing_among_the_sources(built):
    written = {path.name for path in CHAPTERS.iterdir()} & {
        "_build",
        "jupyter_execute",
        ".doctrees",
    }
    assert written == set()


def test_every_source_has_its_page_and_stands_in_the_contents(pages):
    sources = [*CHAPTERS.glob("*.ipynb"), *CHAPTERS.glob("*.md"), *CHAPTERS.glob("*/*.ipynb")]
    wanted = {path.relative_to(CHAPTERS).with_suffix(".html").as_posix() for path in sources}
    assert wanted - set(pages) == set()
    contents = {link["href"] for link in pages["index.html"].select(".bd-sidebar a[href]")}
    assert wanted - contents == {"index.html"}


def test_chapters_lead_to_the_next_and_back(pages):
    order = sorted(path.stem + ".html" for path in CHAPTERS.glob("*.ipynb"))
    for here, after in zip(order, order[1:], strict=False):
        assert pages[here].select_one("a.right-next")["href"] == after
        assert pages[after].select_one("a.left-prev")["href"] == here


def test_stored_outputs_are_shown(book, pages):
    assert len(list((book / "_images").glob("*.png"))) > 20
    for address, page in pages.items():
        if address[0] == "0":
            assert len(page.select("div.cell_output")) > 10, address


def test_notes_for_lecturers_are_folded(pages):
    folded = [note for page in pages.values() for note in page.select("details.lecturers")]
    assert folded
    assert [
        note for note in folded if note.has_attr("open") or not note.get_text(strip=True)
    ] == []


def test_every_link_inside_the_book_leads_somewhere(book, pages):
    places = {
        address: {element["id"] for element in page.select("[id]")}
        | {anchor["name"] for anchor in page.select("a[name]")}
        for address, page in pages.items()
    }
    broken, checked = [], 0
    for address, page in pages.items():
        for element in page.select("a[href], link[href], script[src], img[src]"):
            link = urlsplit(element.get("href") or element.get("src"))
            if link.scheme or link.netloc:
                continue
            checked += 1
            target = (
                (book / address).parent / unquote(link.path) if link.path else book / address
            )
            there = target.resolve()
            anchor = unquote(link.fragment)
            name = there.relative_to(book.resolve()).as_posix() if there.exists() else None
            if name is None or (anchor and name in places and anchor not in places[name]):
                broken.append(f"{address}: {link.geturl()}")
    assert broken == []
    assert checked > 100


def test_nothing_is_loaded_from_elsewhere(pages):
    loading = "script[src], link[rel=stylesheet], link[rel=preload], img[src], iframe[src]"
    found = [
        str(element)
        for page in pages.values()
        for element in page.select(loading)
        if urlsplit(element.get("src") or element.get("href")).netloc
    ]
    assert found == []


def test_every_image_has_a_text_alternative(pages):
    images = [
        (address, image) for address, page in pages.items() for image in page.select("img")
    ]
    assert images
    poor = [
        (address, image.get("alt"))
        for address, image in images
        if len(image.get("alt", "")) < 15
        or re.search(r"\.png|_images/|[$`]|\*\*", image["alt"])
    ]
    assert poor == []


# In a browser.


class Quiet(SimpleHTTPRequestHandler):
    """Serves the book over connections that stay open, and writes no log."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Say nothing."""


@pytest.fixture(scope="module")
def address(book):
    """Serve the book on this machine; return its address."""
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(book))
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


# Waits for the fonts and the formulas; says what is wider than the window and does not scroll.
MEASURE = """async () => {
  if (window.MathJax?.startup) await MathJax.startup.promise;
  await document.fonts.ready;
  const width = document.documentElement.clientWidth;
  const told = [];
  if (document.documentElement.scrollWidth > width)
    told.push(`the page is ${document.documentElement.scrollWidth} px wide, not ${width}`);
  const raw = document.querySelectorAll('.bd-article span.math, .bd-article div.math');
  for (const formula of raw)
    if (!formula.querySelector('mjx-container'))
      told.push(`not typeset: ${formula.textContent}`);
  for (const error of document.querySelectorAll('mjx-merror'))
    told.push(`formula: ${error.textContent}`);
  for (const image of document.images)
    if (!image.complete || !image.naturalWidth) told.push(`no picture: ${image.src}`);
  return told;
}"""


def read_on_both_screens(browser, address, names):
    """Return what is wrong with each page."""
    page = browser.new_page()
    complaints, wrong = listen(page), {}
    for name in names:
        for place, (width, height) in SIZES.items():
            page.set_viewport_size({"width": width, "height": height})
            if place == "desktop":  # the telephone is the same page, turned narrow
                page.goto(f"{address}/{name}", wait_until="load")
            complaints += [f"{place}: {told}" for told in page.evaluate(MEASURE)]
        if complaints:
            wrong[name] = complaints.copy()
            complaints.clear()
    page.close()
    return wrong


def test_chapters_can_be_read_on_both_screens(browser, address, pages):
    names = [name for name in pages if "/" not in name]
    assert len(names) > 12
    assert read_on_both_screens(browser, address, names) == {}


@pytest.mark.thorough  # as many pages again, made by the same rules
def test_every_page_can_be_read_on_both_screens(browser, address, pages):
    assert read_on_both_screens(browser, address, pages) == {}


@pytest.mark.parametrize("name", ["index.html", "search.html"])
def test_a_page_opens_on_a_telephone(browser, address, name):
    width, height = SIZES["telephone"]
    page = browser.new_page(viewport={"width": width, "height": height})
    complaints = listen(page)
    page.goto(f"{address}/{name}", wait_until="load")
    assert page.evaluate(MEASURE) == []
    page.locator("button.primary-toggle").first.click()
    page.locator(".bd-sidebar-primary a, dialog a").first.wait_for(
        state="visible", timeout=5000
    )
    assert complaints == []
    page.close()


def test_what_goes_wrong_in_a_page_is_noticed(browser, address):
    page = browser.new_page()
    complaints = listen(page)
    page.goto(f"{address}/index.html")
    page.set_content(
        "<img src='http://outside.invalid/a.png'><img src='/missing.png'>"
        "<script>console.error('said'); nowhere()</script><p style='width: 5000px'>wide</p>"
    )
    page.wait_for_load_state("networkidle")
    told = " ".join(complaints + page.evaluate(MEASURE))
    page.close()
    for part in ("outside.invalid", "404", "said", "nowhere", "px wide", "no picture"):
        assert part in told


def test_search_finds_a_term(browser, address):
    page = browser.new_page()
    complaints = listen(page)
    page.goto(f"{address}/search.html?q=shrinkage")
    page.wait_for_selector("#search-results li a", timeout=10_000)
    assert page.locator("#search-results li a").count() > 0
    assert complaints == []
    page.close()


def test_search_of_a_book_opened_from_a_file_says_why_it_has_no_extracts(browser, book):
    page = browser.new_page()
    complaints = listen(page)
    page.goto((book / "search.html").as_uri() + "?q=shrinkage")
    page.wait_for_selector("#search-results li a", timeout=10_000)
    note = page.locator(".search-note")
    assert "opened the book from a file" in note.inner_text()
    assert "python -m http.server -d build/book" in note.inner_text()
    assert note.is_visible()
    assert complaints == []
    page.close()


# Says what is cut off or left folded on paper, and what paper does not need.
ON_PAPER = """() => {
  const told = [];
  const cut = '.bd-article pre, .bd-article .cell_output, .bd-article .cell_input';
  for (const box of document.querySelectorAll(cut))
    if (box.scrollWidth > box.clientWidth + 2 && getComputedStyle(box).overflowX !== 'visible')
      told.push(`cut off: ${box.textContent.slice(0, 60)}`);
  for (const code of document.querySelectorAll('.bd-article pre'))
    if (getComputedStyle(code).whiteSpace !== 'pre-wrap')
      told.push(`does not wrap: ${code.textContent.slice(0, 60)}`);
  for (const image of document.querySelectorAll('.bd-article img'))
    if (getComputedStyle(image).breakInside !== 'avoid') told.push(`split: ${image.src}`);
  const tools = '.bd-sidebar-primary, .prev-next-footer, button';
  for (const idle of document.querySelectorAll(tools))
    if (idle.getClientRects().length) told.push(`of no use: ${idle.className}`);
  for (const part of document.querySelectorAll('details:not(.lecturers) > :not(summary)'))
    if (!part.checkVisibility({contentVisibilityAuto: true})) told.push('stays folded');
  for (const note of document.querySelectorAll('details.lecturers'))
    if (note.getClientRects().length) told.push('a note for lecturers');
  return told;
}"""


def test_a_page_can_be_printed(browser, address):
    page = browser.new_page(viewport={"width": 665, "height": 1000})
    page.goto(f"{address}/01_random_slopes_in_five_steps.html")
    assert page.evaluate(ON_PAPER) != []  # on a screen
    page.emulate_media(media="print")
    assert page.evaluate(ON_PAPER) == []
    page.close()
