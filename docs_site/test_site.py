"""The contract of the built site, in a real browser: `python -m docs_site && pytest docs_site` (another folder: SITE=…).

Needs the extra `docs` and a Chromium. Each rule is also broken on purpose, to see that it is noticed.
"""
import hashlib
import inspect
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
from nbdev.config import get_config
from playwright.sync_api import Browser, Page

from docs_site import book
from docs_site.book import Chapter, chapters, sidebar_files
from docs_site.connections import Taken, builds_on, used_in
from docs_site.contract import SIDEBAR, Html, chromium, dead_links, faint, picture_faults, raw_markup, read_site, served, visit, watched
from docs_site.processors import CODE_OR_CHAPTER, Links
from docs_site.site import pandoc
from docs_site.stand_in import load
from docs_site.whereabouts import lit_boxes

CONFIG = get_config()
SITE = Path(os.environ.get("SITE", CONFIG.doc_path))
SOURCES = f"{CONFIG.git_url}/blob/{CONFIG.branch}/"
KATEX_JS = "759450e87b7d6523ab99fc833330673f400a8cc1a87d0055e1ca261baf98d9e4"  # SHA-256 of katex.min.js in npm's katex 0.16.40

CLEAR = ("data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAYAAADED76LAAAAFElEQVR42mNgGHjAyMDA8H+A3QAAgQwBAYqeZMkAAAAA"  # a black line on nothing
         "SUVORK5CYII=")


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
    assert [name for name, report in reports.items() if not report["sight"]] == ["api.html", "glossary.html"]


def test_sidebar_in_reading_order(page: Page) -> None:
    shown = [Path(str(link.get_attribute("href"))).stem for link in page.locator(SIDEBAR).all()]
    assert shown == [name.lstrip("0123456789_").partition(".")[0] for name in sidebar_files()]


def test_every_public_symbol_in_the_index() -> None:
    page = read_site(SITE)["api.html"]
    assert "\\<" not in page.code
    links = set(page.links)
    symbols = import_module(f"{CONFIG.lib_name}._modidx").d["syms"]
    public = {address for module, symbols in symbols.items() for name, (address, _) in symbols.items()
              if name.removeprefix(f"{module}.") in load(module).__all__}
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
    for words, address in (("teacher forcing", "glossary.html#teacher-forcing"), ("anti-diagonal heatmap", ".html")):  # a term, prose
        page.locator("#search").fill(words)
        page.locator(f"#hits a[href*='{address}']").first.wait_for()


def test_the_landing_page_leads_to_every_chapter() -> None:
    main = Html(read_site(SITE)["index.html"].text.partition("<main")[2])
    assert {chapter.page for chapter in chapters().values() if not chapter.gathers} <= {link.partition("#")[0] for link in main.links}


def test_the_viewer_in_a_chapter_is_as_light_or_dark_as_the_page(page: Page) -> None:
    page.goto(page.url.rsplit("/", 1)[0] + "/reverse.html")
    scheme = "() => getComputedStyle(document.documentElement).colorScheme"
    frame = page.frame_locator("iframe.viewer")
    frame.locator("#queries button").first.wait_for()
    inner = page.frames[1]
    assert inner.evaluate(scheme) == "light"
    page.click("#theme, .quarto-color-scheme-toggle")
    page.wait_for_timeout(300)  # the page's policy forbids to wait in the frame
    assert inner.evaluate(scheme) == "dark"


def test_figures_and_text_stand_out(browser: Browser) -> None:
    assert not faint(browser, SITE, list(read_site(SITE)), "dark")
    assert not faint(browser, SITE, ["index.html", "multi_head.html"], "light")


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


# What the pages say about the book is read from the book

def test_links_forward_and_back_agree() -> None:
    for stem, chapter in chapters().items():
        for other, names in builds_on(chapter).items():
            assert used_in(chapters()[other])[stem] == names
    assert builds_on(chapters()["22_multi_head"])["21_scaled_dot_product"] and not builds_on(chapters()["29_attention"])


@pytest.mark.parametrize(("heading", "linked"), [("builds-on", builds_on), ("used-next-in", used_in)])
def test_links_forward_and_back_are_on_the_pages(heading: str, linked: Callable[[Chapter], Taken]) -> None:
    for chapter in chapters().values():
        text = (SITE / chapter.page).read_text(encoding="utf-8").partition(f' id="{heading}"')[2]
        links = Html(text.partition("</h2>")[2].partition("<h2")[0].partition("<footer")[0]).links
        assert [chapters()[stem].page for stem in linked(chapter)] == [link for link in links if "#" not in link]
        if (chapter.number, heading) == ("22", "used-next-in"):
            assert "multi_head.html#multiheadattention" in links


def test_an_import_becomes_a_link(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    original = book.module_file
    module = chapters()["32_projection"].module
    copy = tmp_path / "projection.py"
    copy.write_text(original(module).read_text(encoding="utf-8") + "from ..layers import *\nfrom ..layers import softmax_bwd, _own\n", encoding="utf-8")
    monkeypatch.setattr(book, "module_file", lambda name: copy if name == module else original(name))
    book.imports.cache_clear()
    try:
        assert builds_on(chapters()["32_projection"])["12_softmax"] == ("softmax_bwd",)
        assert used_in(chapters()["12_softmax"])["32_projection"] == ("softmax_bwd",)
    finally:
        book.imports.cache_clear()


@pytest.mark.parametrize(("text", "linked"), [
    ("see chapter 21.", "see [chapter 21](scaled_dot_product.html)."),
    ("Chapters 30, 31 and 33 do.", "Chapters [30](encoder.html), [31](decoder.html) and [33](transformer.html) do."),
    ("`chapter 21`, [chapter 21](x.html), chapter 2, chapter 98", "`chapter 21`, [chapter 21](x.html), chapter 2, chapter 98"),
])
def test_chapters_are_linked(text: str, linked: str) -> None:
    assert CODE_OR_CHAPTER.sub(Links.link_chapter, text) == linked


def test_chapters_that_are_mentioned_exist() -> None:
    numbers = {chapter.number for chapter in chapters().values()}
    assert not [f"{name}: {found[0]}" for name, page in read_site(SITE).items()
                for found in re.finditer(r"[Cc]hapters? \d\d(?:(?:, | and )\d\d)*", page.prose) if not set(re.findall(r"\d\d", found[0])) <= numbers]


@pytest.mark.parametrize(("stem", "lit"), [
    ("10_linear", "self-attention cross-attention feed-forward projection"), ("13_embedding", "embedding"), ("18_feed_forward", "feed-forward"),
    ("16_layer_norm", "encoder decoder"), ("21_scaled_dot_product", "self-attention cross-attention"), ("31_decoder", "decoder"), ("33_transformer", ""),
])
def test_the_map_lights_what_is_built_with_the_chapter(stem: str, lit: str) -> None:
    assert lit_boxes(chapters()[stem]) == tuple(lit.split())


def test_what_needs_jax_is_documented_without_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "needs_jax.py").write_text("""
import jax, optax
import jax.numpy as jnp
from functools import partial
from jax.tree_util import register_dataclass
@partial(jax.jit, static_argnames="n")
def f(x:jax.Array, n:int|None=None, table:dict[str,jax.Array]|None=None)->optax.Updates: "Says what it does."
@register_dataclass
class State(optax.Base): "Says what it is."
zero = jnp.zeros(3) + 1 if False else jax.numpy.float32
""", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("jax", "jax.numpy", "jax.tree_util", "optax"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = load("needs_jax")
    assert str(inspect.signature(module.f)) == "(x: jax.Array, n: int | None = None, table: dict[str, jax.Array] | None = None) -> optax.Updates"
    assert (module.f.__doc__, module.State.__doc__, repr(module.zero)) == ("Says what it does.", "Says what it is.", "jax.numpy.float32")
    assert not {"jax", "jax.numpy", "jax.tree_util", "optax"} & set(sys.modules)


# Each fault is put into a copy of one page

@pytest.fixture
def copy(tmp_path: Path) -> Path:
    "A site of one page, without faults."
    for name in ("multi_head.html", "site.css", "site.js"):
        shutil.copy(SITE / name, tmp_path)
    for name in ("katex", "images", "multi_head_files"):
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


@pytest.mark.parametrize("markup", [":::", "$$x$$", "see @fig-x", "{#eq-x}", "[a](b)", "<pre><code>#| jax\nimport jax</code></pre>"])
def test_raw_markup_is_noticed(copy: Path, markup: str) -> None:
    assert not raw_markup(copy)
    put(copy, "<footer>", f"<p>{markup}</p><footer>")
    assert raw_markup(copy)


@pytest.mark.parametrize(("html", "fault"), [
    ('<style>main img { background: none !important; filter: invert(1) !important }</style>', ""),  # white on black is as good
    ('<style>main img { filter: brightness(.2) !important }</style>', ".png has a contrast of"),
    (f'<style>main img {{ background: none !important }}</style><img alt="black on nothing" src="{CLEAR}">', f"{CLEAR} has a contrast of 1"),
    ('<svg width="50" height="50"><text y="20" fill="#333">letters</text></svg>', "letters has a contrast of"),
    ('<p style="color: #444">words</p>', "p has a contrast of"),
])
def test_a_faint_figure_is_noticed(browser: Browser, copy: Path, html: str, fault: str) -> None:
    put(copy, "<footer>", f"{html}<footer>")
    found = faint(browser, copy, ["multi_head.html"], "dark")
    assert any(fault in line for line in found) if fault else not found


@pytest.mark.parametrize(("html", "fault"), [
    ('<script src="https://cdn.example/x.js"></script>', "asks the network"),
    ('<link rel="stylesheet" href="https://fonts.example/x.css">', "asks the network"),
    ('<span class="math inline">\\frac{1}</span>', "formulas rendered"),
    ("<script>undefinedName()</script>", "undefinedName"),
    ("<script>console.error('oops')</script>", "oops"),
    ('<div style="width: 2000px">wide</div>', "too wide"),
    ("<p>ends with <eos></p>", "unknown elements"),
    ('<svg width="100" viewBox="0 0 200 20"><text y="15" font-size="15">small</text></svg>', "letters of 7.5 pixels"),
    (f"<!-- {'x' * 1_500_000} -->", "bytes with its pictures"),
])
def test_a_fault_in_the_browser_is_noticed(browser: Browser, copy: Path, html: str, fault: str) -> None:
    assert not visit(browser, copy, ["multi_head.html"], 1280)[0]
    put(copy, "<footer>", f"{html}<footer>")
    assert any(fault in found for found in visit(browser, copy, ["multi_head.html"], 1280)[0])
