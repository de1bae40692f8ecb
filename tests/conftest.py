"A real browser for the pages that the package writes. Needs playwright (from PyPI) and an installed Chromium; without them these tests are skipped."
import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, tmp_path):
    "Opens saved pages from files; at the end nothing may have been complained about or fetched."
    contexts, problems = [], []

    def open_page(viewer, **settings):
        path = tmp_path / f"{len(contexts)}.html"
        viewer.save(path)
        contexts.append(browser.new_context(**settings))
        contexts[-1].set_default_timeout(5000)  # milliseconds
        page = contexts[-1].new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: request.url == path.as_uri() or request.url.startswith("data:") or problems.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems, problems
