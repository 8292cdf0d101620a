"""A headless Chromium for tests, and what a page did in it."""

import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "chapters" / "_book"))
OPTIONS = (
    "--no-sandbox",  # CI is root in a container
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # No name is looked up: what a page wants from outside fails at once, and is reported.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
# What a page asks for without leaving the machine.
LOCAL = ("http://127.0.0.1:", "file:", "data:", "blob:", "about:")


@contextmanager
def chromium():
    """Start the browser; skip the test where there is none."""
    editions = pytest.importorskip("editions", reason="the extra `book` is not installed")
    path = editions.chromium_path()
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(editions.CHROMIUM)} is on the PATH")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed"
    )
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=OPTIONS)
        try:
            yield browser
        finally:
            browser.close()


def listen(page):
    """Return a list that fills with whatever goes wrong in `page`, as sentences."""
    complaints = []

    def asked(request):
        if not request.url.startswith(LOCAL):
            complaints.append(f"request to outside: {request.url}")

    def answered(response):
        if response.status >= 400:
            complaints.append(f"{response.status} for {response.url}")

    def failed(request):
        if request.failure == "net::ERR_ABORTED":
            return  # the page was left before its icon had come
        complaints.append(f"request failed: {request.url:.200}")

    def said(message):
        if message.type in ("error", "warning"):
            complaints.append(f"console {message.type}: {message.text}")

    page.on("request", asked)
    page.on("response", answered)
    page.on("requestfailed", failed)
    page.on("console", said)
    page.on("pageerror", lambda error: complaints.append(f"script error: {error}"))
    return complaints
