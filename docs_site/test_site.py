"""The contract of the built site, in a real browser: `python -m docs_site && pytest docs_site` (another folder: SITE=…).

Needs the extra `docs` and a Chromium. Each rule is also broken on purpose, to see that it is noticed.
"""
import hashlib
import os
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from nbdev.config import get_config
from playwright.sync_api import Browser, Page

from docs_site.contract import SIDEBAR, chromium, dead_links, picture_faults, raw_markup, read_site, served, visit, watched
from docs_site.site import pandoc

CONFIG = get_config()
SITE = Path(os.environ.get("SITE", CONFIG.doc_path))
SOURCES = f"{CONFIG.git_url}/blob/{CONFIG.branch}/"
KATEX_JS = "759450e87b7d6523ab99fc833330673f400a8cc1a87d0055e1ca261baf98d9e4"  # SHA-256 of katex.min.js in npm's katex 0.16.40


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    "A desktop page that may be opened over http or from a file; the landing page is open."
    faults: list[str] = []
    with served(SITE) as home, watched(browser, home, faults, viewport={"width": 1280, "height": 900}) as page:
        page.goto(home)
        yield page
    assert not faults


def test_the_viewer_of_the_trained_model(page: Page) -> None:
    "Pointing at a letter that is written lights its mirror image in the source, or the letter beside it."
    page.goto(page.url.rsplit("/", 1)[0] + "/viewer/reverse.html")
    queries, keys = page.locator("#queries button"), page.locator("#keys button")
    misses = []
    for t in range(n := len("transformer")):
        queries.nth(t).hover()
        opacities = keys.evaluate_all("all => all.map(b => Number(getComputedStyle(b, '::before').opacity))")
        misses.append(abs(max(range(len(opacities)), key=opacities.__getitem__) - (n - 1 - t)))
    assert max(misses) <= 1 and misses.count(0) > n / 2


def test_links_and_anchors() -> None:
    assert not dead_links(SITE, SOURCES)


def test_pictures() -> None:
    assert not picture_faults(SITE)


def test_no_raw_markup() -> None:
    assert not raw_markup(SITE)


def test_pages_on_a_phone(browser: Browser) -> None:
    assert not visit(browser, SITE, list(read_site(SITE)), 390)[0]


def test_pages_on_a_desk(browser: Browser) -> None:
    "And a picture or a formula is in sight when a chapter opens."
    faults, reports = visit(browser, SITE, list(read_site(SITE)), 1280)
    assert not faults
    assert [name for name, report in reports.items() if not report["sight"]] == ["api.html"]


def chapters() -> list[str]:
    "The files that sidebar.yml lists, in its order."
    entries = yaml.safe_load(Path(CONFIG.nbs_path, "sidebar.yml").read_text(encoding="utf-8"))["website"]["sidebar"]["contents"]
    return [name for entry in entries for name in ([entry] if isinstance(entry, str) else entry["contents"])]


def test_sidebar_in_reading_order(page: Page) -> None:
    shown = [Path(str(link.get_attribute("href"))).stem for link in page.locator(SIDEBAR).all()]
    assert shown == [name.lstrip("0123456789_").partition(".")[0] for name in chapters()]


def test_every_public_symbol_in_the_index() -> None:
    links = set(read_site(SITE)["api.html"].links)
    symbols = import_module(f"{CONFIG.lib_name}._modidx").d["syms"]
    public = {address for module, symbols in symbols.items() for name, (address, _) in symbols.items()
              if name.removeprefix(f"{module}.") in import_module(module).__all__}
    assert len(public) > 100 and public <= links


@pytest.mark.parametrize("protocol", ["http", "file"])
def test_search(browser: Browser, page: Page, protocol: str) -> None:
    if protocol == "file":
        page = browser.new_page()
        page.goto((SITE / "index.html").resolve().as_uri())
    page.keyboard.press("/")
    page.keyboard.type("MultiHeadAttention")
    page.locator("#hits a").first.wait_for()
    page.keyboard.press("Enter")
    page.wait_for_url("**/multi_head.html#multiheadattention")
    assert page.locator("#multiheadattention").bounding_box()["y"] < 300  # type: ignore[index]
    page.locator("#search").fill("anti-diagonal heatmap")  # prose
    page.locator("#hits a").first.wait_for()


def background(page: Page, selector: str) -> list[int]:
    "Red, green, blue behind an element."
    colour: str = page.eval_on_selector(selector, "element => getComputedStyle(element).backgroundColor")
    return [int(float(part)) for part in colour.partition("(")[2].rstrip(")").split(",")][:3]


def test_light_and_dark(page: Page) -> None:
    assert min(background(page, "body")) > 200
    page.click("#theme, .quarto-color-scheme-toggle")
    assert max(background(page, "body")) < 60
    assert min(background(page, "main img")) > 200  # black axes stay readable
    page.reload()
    assert max(background(page, "body")) < 60  # the choice is kept


def test_dark_system(browser: Browser) -> None:
    faults: list[str] = []
    with served(SITE) as home, watched(browser, home, faults, color_scheme="dark") as page:
        page.goto(home)
        assert max(background(page, "body")) < 60
    assert not faults


def test_phone_menu(browser: Browser) -> None:
    faults: list[str] = []
    with served(SITE) as home, watched(browser, home, faults, viewport={"width": 390, "height": 800}) as page:
        page.goto(home)
        link = page.locator(SIDEBAR).nth(1)
        assert not link.is_visible()
        page.click("#menu")
        link.click()
        page.wait_for_url("**/notation.html")
    assert not faults


def test_solutions_open(page: Page) -> None:
    page.goto(page.url.replace("index.html", "") + "multi_head.html")
    solution = page.locator("details.callout").first
    code = solution.locator("pre").first
    assert not code.is_visible()
    solution.locator("summary").first.click()
    assert code.is_visible()


def test_katex_is_unedited() -> None:
    assert hashlib.sha256((SITE / "katex/katex.min.js").read_bytes()).hexdigest() == KATEX_JS
    assert "MIT" in (SITE / "katex/LICENSE").read_text(encoding="utf-8")


def test_dialect() -> None:
    "What the chapters may use of Quarto's markdown and do not use yet."
    html = pandoc("$$a = b$$ {#eq-one}\n\nSee @eq-one and [m](https://x/m.html).\n\n::: {.callout-note}\n## Title\nBody\n:::", "https://x/")
    assert 'id="eq-one"' in html and "\\tag{1}" in html and '<a href="#eq-one">Equation 1</a>' in html and 'href="m.html"' in html
    assert '<div class="callout note" role="note">' in html and "<h2" not in html
    with pytest.raises(ValueError, match="no such label: @fig-missing"):
        pandoc("See @fig-missing.", "https://x/")


# Each fault is put into a copy of one page

@pytest.fixture
def copy(tmp_path: Path) -> Path:
    "A site of one page, without faults."
    for name in ("multi_head.html", "site.css", "site.js"):
        shutil.copy(SITE / name, tmp_path)
    for name in ("katex", "multi_head_files"):
        shutil.copytree(SITE / name, tmp_path / name)
    return tmp_path


def put(site: Path, old: str, new: str) -> None:
    "Replace the first `old` in the page by `new`."
    path = site / "multi_head.html"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize("new", ['<a href="nowhere.html">', '<a href="#nowhere">', f'<a href="{SOURCES}nowhere.py">'])
def test_a_dead_link_is_noticed(copy: Path, new: str) -> None:
    put(copy, "<footer>", f"{new}x</a><footer>")
    assert any("nowhere" in fault for fault in dead_links(copy, SOURCES))


@pytest.mark.parametrize(("old", "new", "fault"), [('alt="', 'data-alt="', "no alt text"), ('src="multi', 'src="mutli', "no picture")])
def test_a_bad_picture_is_noticed(copy: Path, old: str, new: str, fault: str) -> None:
    assert not picture_faults(copy)
    put(copy, old, new)
    assert [fault in found for found in picture_faults(copy)] == [True]


@pytest.mark.parametrize("markup", [":::", "$$x$$", "see @fig-x", "{#eq-x}", "[a](b)"])
def test_raw_markup_is_noticed(copy: Path, markup: str) -> None:
    assert not raw_markup(copy)
    put(copy, "<footer>", f"<p>{markup}</p><footer>")
    assert raw_markup(copy)


@pytest.mark.parametrize(("html", "fault"), [
    ('<script src="https://cdn.example/x.js"></script>', "asks the network"),
    ('<link rel="stylesheet" href="https://fonts.example/x.css">', "asks the network"),
    ('<span class="math inline">\\frac{1}</span>', "formulas rendered"),
    ("<script>undefinedName()</script>", "undefinedName"),
    ("<script>console.error('oops')</script>", "oops"),
    ('<div style="width: 2000px">wide</div>', "too wide"),
    ("<p>ends with <eos></p>", "unknown elements"),
    (f"<!-- {'x' * 1_500_000} -->", "bytes with its pictures"),
])
def test_a_fault_in_the_browser_is_noticed(browser: Browser, copy: Path, html: str, fault: str) -> None:
    assert not visit(browser, copy, ["multi_head.html"], 1280)[0]
    put(copy, "<footer>", f"{html}<footer>")
    assert any(fault in found for found in visit(browser, copy, ["multi_head.html"], 1280)[0])
