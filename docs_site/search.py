"""The search index: the prose of each section of a rendered page."""
from html.parser import HTMLParser

Section = dict[str, str]

HEADINGS = ("h1", "h2", "h3", "h4")
SILENT = ("pre", "nav", "footer", "button", "summary", "svg")  # code, navigation


def sections(url: str, page: str, text: str) -> list[Section]:
    "The sections of a page: heading, text, and the address that leads there."
    collector = Collector(url, page)
    collector.feed(text)
    return [{name: " ".join(value.split()) for name, value in section.items()} for section in collector.found]


class Collector(HTMLParser):
    "Collects the text of `<main>`, cut at its headings."

    def __init__(self, url: str, page: str) -> None:
        super().__init__()
        self.url, self.page = url, page
        self.found: list[Section] = []
        self.inside, self.in_heading, self.in_formula, self.silent = False, False, False, 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.inside |= tag == "main"
        self.silent += tag in SILENT
        self.in_formula |= tag == "span" and (dict(attributes).get("class") or "").startswith("math ")
        anchor = dict(attributes).get("id")
        if self.inside and tag in HEADINGS and (anchor or tag == "h1"):
            self.in_heading = True
            self.found.append({"page": self.page, "heading": "", "url": f"{self.url}#{anchor}" if anchor else self.url, "text": ""})

    def handle_endtag(self, tag: str) -> None:
        self.silent -= tag in SILENT
        if tag == "main":
            self.inside = False
        elif tag == "span":  # a formula holds no other span before the browser renders it
            self.in_formula = False
        elif tag in HEADINGS:
            self.in_heading = False

    def handle_data(self, data: str) -> None:
        if self.found and self.inside and not self.silent and not self.in_formula:
            self.found[-1]["heading" if self.in_heading else "text"] += data
