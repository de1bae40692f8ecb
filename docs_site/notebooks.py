"""From a notebook that nbdev has processed to the markdown that pandoc reads, in Quarto's dialect."""
import base64
import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Cell = dict[str, Any]
Options = dict[str, Any]

OPTION_LINES = re.compile(r"(?:\s*#\|.*(?:\n|$))*")
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Page:
    "One page of the site before it is rendered."
    source: str  # file name in the folder of processed notebooks
    front: dict[str, Any] = field(default_factory=dict)  # title, description, output-file
    markdown: str = ""
    images: dict[str, bytes] = field(default_factory=dict)  # by path on the site

    @property
    def output(self) -> str:
        return str(self.front.get("output-file", f"{Path(self.source).stem}.html"))

    @property
    def title(self) -> str:
        return str(self.front.get("title", Path(self.source).stem))

    @property
    def description(self) -> str:
        return str(self.front.get("description", ""))

    @property
    def number(self) -> str:
        "The number of the chapter, or nothing."
        match = re.match(r"(\d\d)_", self.source)
        return match[1] if match else ""


def read_page(path: Path) -> Page:
    "A processed notebook, or a markdown file with front matter."
    page = Page(path.name)
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        page.markdown = take_front_matter(page, text)
        return page
    blocks = []
    for index, cell in enumerate(json.loads(text)["cells"]):
        source = joined(cell["source"])
        match cell["cell_type"]:
            case "raw":
                blocks.append(take_front_matter(page, source))
            case "markdown":
                blocks.append(source)
            case "code":
                blocks += code_cell(page, cell, index)
    page.markdown = "\n\n".join(blocks) + "\n"
    return page


def take_front_matter(page: Page, text: str) -> str:
    "Move the YAML at the top into the page; return the rest."
    match = re.match(r"\s*---\n(.*?)\n---\s*\n?", text, re.DOTALL)
    if not match:
        return text
    page.front |= yaml.safe_load(match[1]) or {}
    return text[match.end():]


def code_cell(page: Page, cell: Cell, index: int) -> list[str]:
    "The code of a cell and its outputs, as its `#|` options want them."
    source = joined(cell["source"])
    head = OPTION_LINES.match(source)[0]  # type: ignore[index]  # matches the empty string too
    options: Options = {}
    for line in re.findall(r"#\|\s*([\w-]+:.*)", head):
        options |= yaml.safe_load(line.replace(":", ": ", 1))
    if options.get("include") is False:
        return []
    code, blocks = source[len(head):].strip("\n"), []
    if code and options.get("echo") is not False:
        blocks.append(folded(fence(code, ".python"), options))
    shown = list(outputs(page, cell, options, index)) if options.get("output") is not False else []
    label = str(options.get("label", ""))
    if label.startswith("fig-") and shown:
        shown = [f"::: {{#{label} .figure}}", *shown, str(options.get("fig-cap", "")), ":::"]
    return blocks + shown


def folded(code: str, options: Options) -> str:
    "The code, behind a button if the cell asks for that."
    fold = options.get("code-fold")
    if not fold:
        return code
    state = " open" if fold == "show" else ""
    summary = html.escape(str(options.get("code-summary", "Code")))
    return f'<details class="code"{state}><summary>{summary}</summary>\n\n{code}\n\n</details>'


def outputs(page: Page, cell: Cell, options: Options, index: int) -> Iterator[str]:
    "Each output as markdown; pictures go to the page's files."
    for number, output in enumerate(cell.get("outputs") or []):
        data = output.get("data") or {}
        if output["output_type"] == "error":
            yield fence(ANSI.sub("", "\n".join(output["traceback"])), ".output .error")
        elif "image/png" in data:
            name = f"{Path(page.output).stem}_files/{options.get('label', f'cell-{index}')}-{number}.png"
            page.images[name] = base64.b64decode(joined(data["image/png"]))
            alt = html.escape(str(options.get("fig-alt", "")))
            yield f'![]({name}){{alt="{alt}" loading=lazy{pixel_size(page.images[name])}}}'
        elif "text/markdown" in data:
            yield joined(data["text/markdown"])
        elif text := joined(data.get("text/plain") or output.get("text") or ""):
            yield text if options.get("output") == "asis" else fence(ANSI.sub("", text).rstrip("\n"), ".output")


def pixel_size(png: bytes) -> str:
    "Width and height of a PNG as attributes, so that the page does not jump while pictures load."
    width, height = (int.from_bytes(png[i:i + 4]) for i in (16, 20))
    return f" width={width} height={height}"


def fence(text: str, attributes: str) -> str:
    "A code block whose fence is longer than any in the text."
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=3)
    ticks = "`" * (longest + 1)
    return f"{ticks}{{{attributes}}}\n{text}\n{ticks}"


def joined(text: str | list[str]) -> str:
    "Text of a notebook, which may be stored as a list of lines."
    return text if isinstance(text, str) else "".join(text)
