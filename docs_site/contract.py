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
from typing import Any, Literal
from urllib.parse import unquote

from playwright.sync_api import Browser, Page, Route, sync_playwright

NOT_PROSE = ("script", "style", "pre", "code")
VOID = ("img", "br", "hr", "meta", "link", "input", "col", "wbr", "source")
RAW_MARKUP = re.compile(r":::|\$\$|(?<!\w)@(?:fig|eq|tbl|sec)-|\{[#.][\w-]+|#\| |\]\(|```")
DIRECTIVE = re.compile(r"^\s*#\|.*", re.MULTILINE)
MAX_WEIGHT = 1_500_000  # bytes, with every picture of the page
MIN_LABEL = 10  # pixels, the letters in a drawing
MIN_CONTRAST = 4.5  # of the letters in a drawing and the ink of a picture with the ground (WCAG 2, AA)
SIDEBAR = "#nav a, #quarto-sidebar a.sidebar-link"


@dataclass
class Html(HTMLParser):
    "What the static checks need of one page."
    text: str
    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    images: list[dict[str, str | None]] = field(default_factory=list)
    prose: str = ""
    code: str = ""

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
        if tag == "pre":
            self.code += "\n"
        if tag not in VOID:
            self.open.append(tag in NOT_PROSE or "math" in (attributes.get("class") or "").split())

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID and self.open:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if any(self.open):
            self.code += data
        else:
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
    "Markdown that nobody rendered, and directives of nbdev that nobody took away."
    return [f"{name}: raw {found[0]!r} in {text[max(0, found.start() - 30):found.end() + 30]!r}"
            for name, page in read_site(site).items()
            for text, pattern in ((page.prose, RAW_MARKUP), (page.code, DIRECTIVE)) for found in pattern.finditer(text)]


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
    labels: Math.min(...[...document.querySelectorAll("main svg text")].filter(text => text.getBoundingClientRect().height)
      .map(text => parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a)),
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
    if report["labels"] < MIN_LABEL:
        yield f"letters of {report['labels']:.1f} pixels in a drawing at {width}; {MIN_LABEL} are needed"
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


CONTRASTS = """async () => {
  const luminance = ([r, g, b]) => [r, g, b].map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0)
  const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
  const pen = document.createElement("canvas").getContext("2d", {willReadFrequently: true})
  const pixels = () => pen.getImageData(0, 0, pen.canvas.width, pen.canvas.height).data
  const resize = (width, height) => { pen.canvas.width = width; pen.canvas.height = height }
  function colour(text) {  // as luminance
    resize(1, 1)
    pen.fillStyle = text
    pen.fillRect(0, 0, 1, 1)
    return luminance(pixels())
  }
  const isClear = text => text === "none" || /, 0\\)$/.test(text)
  const page = colour(getComputedStyle(document.body).backgroundColor)
  function ground(element) {  // the colour behind a picture
    for (let at = element; at; at = at.parentElement) {
      const text = getComputedStyle(at).backgroundColor
      if (!isClear(text)) return text
    }
  }
  async function picture(image) {  // its corner, and what differs most from that among the commoner colours
    image.loading = "eager"
    await image.decode()
    resize(image.naturalWidth, image.naturalHeight)
    pen.filter = getComputedStyle(image).filter
    pen.fillStyle = ground(image)
    pen.fillRect(0, 0, pen.canvas.width, pen.canvas.height)
    pen.drawImage(image, 0, 0)
    const data = pixels(), counts = new Uint32Array(4096)  // 16 shades of red, green and blue
    for (let i = 0; i < data.length; i += 4) counts[(data[i] >> 4) << 8 | (data[i + 1] >> 4) << 4 | data[i + 2] >> 4]++
    const shade = key => luminance([key >> 8, key >> 4 & 15, key & 15].map(c => c * 17)), edge = luminance(data)
    const common = [...counts.keys()].filter(key => counts[key] > data.length / 4 / 1000)
    return Math.max(...common.map(key => contrast(shade(key), edge)))
  }
  function letters(text) {  // of a drawing, with the box that they stand in
    const box = text.previousElementSibling, fill = box && getComputedStyle(box).fill
    return contrast(colour(getComputedStyle(text).fill), fill && !isClear(fill) ? colour(fill) : page)
  }
  const found = []
  for (const image of document.querySelectorAll("main img")) found.push([image.getAttribute("src"), await picture(image)])
  for (const text of document.querySelectorAll("main svg text")) found.push([text.textContent, letters(text)])
  for (const line of document.querySelectorAll("main p, main pre, main figcaption")) found.push([line.localName, contrast(colour(getComputedStyle(line).color), page)])
  return found
}"""


def faint(browser: Browser, site: Path, names: list[str], scheme: Literal["light", "dark"]) -> list[str]:
    "Pictures, letters of drawings and lines of text that do not stand out from what is behind them."
    faults: list[str] = []
    with served(site) as home, watched(browser, home, faults, color_scheme=scheme) as page:
        for name in names:
            page.goto(home + name, wait_until="load")
            faults += [f"{name}: {what} has a contrast of {contrast:.1f} in {scheme}" for what, contrast in page.evaluate(CONTRASTS) if contrast < MIN_CONTRAST]
    return faults
