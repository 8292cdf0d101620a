"""The printed editions: one PDF, one EPUB, or every page as a file of its own to hand out.

``python3 start.py pdf``, ``epub`` or ``handouts`` writes build/course.pdf, build/course.epub or
the folder build/handouts; a further word names another place. No edition needs a network. They
leave out proofs and the notes for lecturers, and show what waits for a click in the book.
"""

import base64
import mimetypes
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from bs4 import BeautifulSoup

BOOK = Path(__file__).resolve().parent
BUILD = BOOK.parent.parent / "build"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NUMBERS = (
    '<p style="width: 100%; font-size: 8pt; text-align: center">'
    '<span class="pageNumber"></span></p>'
)
# Waits for formulas and fonts; sets a formula that is too wide for the paper smaller: a browser
# would shrink all pages.
WIDTH = 665  # px of A4 between the margins of print.css
READY = """async () => {
  await MathJax.startup.promise;
  await document.fonts.ready;
  for (const formula of document.querySelectorAll('mjx-container[display="true"]')) {
    const size = formula.querySelector('mjx-math').getBoundingClientRect();
    const room = formula.parentElement.clientWidth / size.width;
    const now = parseFloat(formula.style.fontSize || 100);
    if (room < 1) formula.style.fontSize = `${now * room}%`;
  }
}"""
PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"/><meta name="viewport" content="width=device-width"/>
<title>{title}</title><style>{style}</style></head>
<body class="handout">{body}</body>
</html>
"""


@contextmanager
def built(builder, *options):
    """Build the course for print with a builder of Sphinx; yield the folder, for a while."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-t", "print"]
        command += ["-b", builder, "-c", str(BOOK), "-d", f"{folder}/pages", *options]
        if subprocess.call([*command, str(BOOK.parent), f"{folder}/made"]):
            sys.exit("The edition was not written: see above.")
        yield Path(folder, "made")


def chromium_path():
    """Return where a Chromium is installed, or None."""
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


def pdf(target):
    """Write the whole course as one PDF, with an outline, page numbers and working links."""
    from playwright.sync_api import sync_playwright

    path = chromium_path()
    if path is None:
        sys.exit(
            f"The PDF is printed by a Chromium or Chrome; none of {CHROMIUM} is installed."
        )
    with built("singlehtml") as folder, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 1000})
        page.emulate_media(media="print", color_scheme="light")
        page.goto((folder / "index.html").as_uri())
        page.evaluate(READY)
        page.pdf(
            path=target,
            prefer_css_page_size=True,
            print_background=True,
            display_header_footer=True,
            header_template="<p></p>",
            footer_template=NUMBERS,
            outline=True,
            tagged=True,
        )
        browser.close()


def epub(target):
    """Write the whole course as one EPUB."""
    with built("epub", "-D", "html_math_renderer=mathml") as folder:
        shutil.copy(folder / "course.epub", target)


def handouts(target):
    """Write every page as one file that brings its pictures along."""
    style = (BOOK / "static" / "handout.css").read_text(encoding="utf-8")
    with built("epub", "-D", "html_math_renderer=mathml") as folder:
        for path in sorted(folder.rglob("*.xhtml")):
            page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
            body = page.select_one("div.body")
            if body is None or path.stem in ("index", "genindex"):
                continue
            for image in body.select("img[src]"):
                image["src"] = data_uri(path.parent / image["src"])
            for link in body.select("a[href]"):
                link["href"] = link["href"].replace(".xhtml", ".html")
            made = Path(target, path.relative_to(folder)).with_suffix(".html")
            made.parent.mkdir(parents=True, exist_ok=True)
            title = page.title.get_text(strip=True)
            text = PAGE.format(title=title, style=style, body=body.decode_contents())
            made.write_text(text, encoding="utf-8")


def data_uri(path):
    """Return a picture as an address that holds it."""
    kind = mimetypes.guess_type(path.name)[0]
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


EDITIONS = {
    "pdf": (pdf, BUILD / "course.pdf"),
    "epub": (epub, BUILD / "course.epub"),
    "handouts": (handouts, BUILD / "handouts"),
}


def main(name, target=None):
    """Write an edition."""
    write, default = EDITIONS[name]
    place = Path(target or default).resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    write(place)
    print(place)


if __name__ == "__main__":
    main(*sys.argv[1:])
