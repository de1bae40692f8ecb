"""What a built site has to keep, whichever renderer made it: each function returns the faults that it finds."""
import functools
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from playwright.sync_api import Browser, Page, Route, sync_playwright

NOT_PROSE = ("script", "style", "pre", "code")
VOID = ("img", "br", "hr", "meta", "link", "input", "col", "wbr", "source")
RAW_MARKUP = re.compile(r":::|\$\$|(?<!\w)@(?:fig|eq|tbl|sec)-|\{[#.][\w-]+|#\| |\]\(|```")
MAX_WEIGHT = 1_500_000  # bytes, with every picture of the page
SIDEBAR = "#nav a, #quarto-sidebar a.sidebar-link"


@dataclass
class Html(HTMLParser):
    "What the static checks need of one page."
    text: str
    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    images: list[dict[str, str | None]] = field(default_factory=list)
    prose: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.open: list[bool] = []  # for each open element: does it hold something other than prose?
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if identifier := attributes.get("id"):
            self.ids.add(identifier)
        if tag == "a" and (link := attributes.get("href")):
            self.links.append(link)
        if tag == "img":
            self.images.append(attributes)
        if tag not in VOID:
            self.open.append(tag in NOT_PROSE or "math" in (attributes.get("class") or "").split())

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID and self.open:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if not any(self.open):
            self.prose += data


def read_site(site: Path) -> dict[str, Html]:
    "All pages, by name."
    return {path.name: Html(path.read_text(encoding="utf-8")) for path in sorted(site.glob("*.html"))}


def dead_links(site: Path, source_url: str = "") -> list[str]:
    "Links and anchors that lead nowhere; below `source_url` the file must exist in this checkout."
    pages = read_site(site)
    return [f"{name}: {fault}" for name, page in pages.items() for link in page.links if (fault := link_fault(name, link, pages, site, source_url))]


def link_fault(name: str, link: str, pages: dict[str, Html], site: Path, source_url: str) -> str:
    "What is wrong with one link, or nothing."
    if source_url and link.startswith(source_url):
        path = unquote(link.removeprefix(source_url).partition("#")[0])
        return "" if Path(path).is_file() and "#LNone" not in link else f"no such source {link}"
    if re.match(r"[a-z]+:", link):
        return ""
    file, _, anchor = unquote(link).partition("#")
    file = file.removeprefix("./") or name
    if file not in pages:
        return "" if (site / file).is_file() else f"dead link {link}"
    return f"dead anchor {link}" if anchor and anchor not in pages[file].ids else ""


def picture_faults(site: Path) -> list[str]:
    "Pictures that are not there, and pictures without alternative text."
    faults = []
    for name, page in read_site(site).items():
        for image in page.images:
            source = unquote(image.get("src") or "")
            if not source.startswith("data:") and not (site / source).is_file():
                faults.append(f"{name}: no picture {source}")
            if not (image.get("alt") or "").strip():
                faults.append(f"{name}: no alt text for {source[:60]}")
    return faults


def raw_markup(site: Path) -> list[str]:
    "Markdown that nobody rendered."
    return [f"{name}: raw {found[0]!r} in {page.prose[max(0, found.start() - 30):found.end() + 30]!r}"
            for name, page in read_site(site).items() for found in RAW_MARKUP.finditer(page.prose)]


class Quiet(SimpleHTTPRequestHandler):
    "Serves files and says nothing."

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def served(site: Path) -> Iterator[str]:
    "The address of the site on this machine."
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()


@contextmanager
def chromium() -> Iterator[Browser]:
    "The Chromium that the system has."
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not executable:
        raise FileNotFoundError("no chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@contextmanager
def watched(browser: Browser, home: str, faults: list[str], **options: Any) -> Iterator[Page]:
    "A page that notes each request beyond `home`, and refuses it, and each error of a script or the console."
    page = browser.new_page(**options)

    def on_request(route: Route) -> None:
        if route.request.url.startswith((home, "data:", "blob:")):
            route.continue_()
        else:
            faults.append(f"{page.url.removeprefix(home)}: asks the network for {route.request.url}")
            route.abort()

    page.route("**/*", on_request)
    page.on("pageerror", lambda error: faults.append(f"{page.url.removeprefix(home)}: {error}"))
    page.on("console", lambda line: faults.append(f"{page.url.removeprefix(home)}: {line.text}") if line.type == "error" else None)
    yield page
    page.close()


PAGE_REPORT = """async () => {
  const images = [...document.images]
  const visible = element => { const box = element.getBoundingClientRect(); return box.height && box.top < innerHeight }
  images.forEach(image => { image.loading = "eager" })
  await Promise.all(images.map(image => image.decode().catch(() => {})))
  await document.fonts.ready
  const weight = ["navigation", "resource"].flatMap(kind => performance.getEntriesByType(kind)).reduce((sum, entry) => sum + entry.decodedBodySize, 0)
  return {
    broken: images.filter(image => !image.naturalWidth).map(image => image.src),
    formulas: document.querySelectorAll("span.math").length,
    rendered: document.querySelectorAll("span.math .katex").length,
    wrong: [...document.querySelectorAll(".katex-error")].map(element => element.title),
    unknown: [...document.querySelectorAll("main *")].filter(element => element instanceof HTMLUnknownElement).map(element => element.localName),
    wide: document.documentElement.scrollWidth - innerWidth,
    weight,
    title: [...document.querySelectorAll("h1.title")].some(visible),
    summary: [...document.querySelectorAll(".description")].some(visible),
    sight: [...document.querySelectorAll("main img, main svg, main .katex")].some(visible),
  }
}"""


def page_faults(report: dict[str, Any], width: int) -> Iterator[str]:
    "What is wrong on a page, from what the browser says about it."
    if report["broken"]:
        yield f"pictures that do not load: {report['broken']}"
    if report["rendered"] != report["formulas"] or report["wrong"]:
        yield f"{report['rendered']} of {report['formulas']} formulas rendered; {report['wrong']}"
    if report["unknown"]:
        yield f"unknown elements {report['unknown']}: markup that should have been escaped"
    if report["wide"] > 0:
        yield f"{report['wide']} pixels too wide at {width}"
    if report["weight"] > MAX_WEIGHT:
        yield f"{report['weight']:,} bytes with its pictures; {MAX_WEIGHT:,} are allowed"
    if not report["title"] or not report["summary"]:
        yield "no title or no summary on the first screen"


def visit(browser: Browser, site: Path, names: list[str], width: int) -> tuple[list[str], dict[str, dict[str, Any]]]:
    "Open these pages at this width: their faults, and the browser's report on each."
    faults: list[str] = []
    reports = {}
    with served(site) as home, watched(browser, home, faults, viewport={"width": width, "height": 900}) as page:
        for name in names:
            page.goto(home + name, wait_until="load")
            reports[name] = page.evaluate(PAGE_REPORT)
            faults += [f"{name}: {fault}" for fault in page_faults(reports[name], width)]
    return faults, reports
