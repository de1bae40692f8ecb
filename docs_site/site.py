"""Build the site: process the notebooks with nbdev, render each with pandoc, add navigation and the search index."""
import html
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pypandoc
import yaml
from fastcore.xtras import AttrDict
from nbdev.config import get_config
from nbdev.serve import proc_nbs

from docs_site.katex import copy_katex
from docs_site.notebooks import Page, read_page
from docs_site.search import sections

ASSETS = Path(str(files("docs_site"))) / "assets"


@dataclass
class Part:
    "A part of the book, as the sidebar shows it; the landing page stands in one without a title."
    title: str
    pages: list[Page]


def build() -> Path:
    "Build the whole site from the current directory's notebooks into the folder that settings.ini names."
    config = get_config()
    out = Path(config.doc_path)
    processed = process(config)
    parts = read_parts(processed)
    pages = [page for part in parts for page in part.pages]
    check_names(pages)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    copy_resources(processed, out)
    copy_katex(out / "katex")
    for name in ("site.css", "site.js"):
        shutil.copy(ASSETS / name, out)
    for page in pages:
        for name, content in page.images.items():
            (out / name).parent.mkdir(exist_ok=True)
            (out / name).write_bytes(content)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rendered = list(pool.map(lambda page: render(page, parts, config), pages))
    for page, text in zip(pages, rendered, strict=True):
        (out / page.output).write_text(text, encoding="utf-8")
    index = [section for page, text in zip(pages, rendered, strict=True) for section in sections(page.output, page.title, text)]
    (out / "search.js").write_text(f"const searchIndex = {json.dumps(index, ensure_ascii=False)};\n", encoding="utf-8")
    return out


def process(config: AttrDict) -> Path:
    "The folder with the notebooks as nbdev hands them to a renderer: directives done, symbols linked and documented."
    shutil.rmtree(config.config_path / "_proc", ignore_errors=True)  # notebooks that are gone would stay
    folder: Path = proc_nbs(n_workers=0)
    return folder


def read_parts(folder: Path) -> list[Part]:
    "The pages in the order of sidebar.yml, by part."
    sidebar = yaml.safe_load((folder / "sidebar.yml").read_text(encoding="utf-8"))["website"]["sidebar"]["contents"]
    parts = [Part("", [])]
    for entry in sidebar:
        if isinstance(entry, str):
            parts[0].pages.append(read_page(folder / entry))
        else:
            parts.append(Part(entry["section"], [read_page(folder / name) for name in entry["contents"]]))
    listed = {page.source for part in parts for page in part.pages}
    missing = sorted({path.name for path in folder.glob("*.ipynb")} - listed)
    if missing:
        raise SystemExit(f"not in nbs/sidebar.yml: {', '.join(missing)}")
    return parts


def copy_resources(folder: Path, out: Path) -> None:
    "The folders that _quarto.yml names as resources, where they are."
    for name in yaml.safe_load((folder / "_quarto.yml").read_text(encoding="utf-8"))["project"]["resources"]:
        if (folder / name).is_dir():
            shutil.copytree(folder / name, out / name)


def check_names(pages: list[Page]) -> None:
    "Each page needs a name of its own; nbdev makes it from the notebook's, without the number."
    by_name: dict[str, str] = {}
    for page in pages:
        other = by_name.setdefault(page.output, page.source)
        if other != page.source:
            raise SystemExit(f"{other} and {page.source} would both become {page.output}: rename one of them")


def render(page: Page, parts: list[Part], config: AttrDict) -> str:
    "One page as HTML."
    variables = {
        "pagetitle": page.title if page.title == config.title else f"{page.title} – {config.title}",
        "title": page.title,
        "description": page.description,
        "part": part_line(page, parts),
        "site": config.title,
        "repository": config.git_url,
        "notebook": f"{config.git_url}/blob/{config.branch}/{config.nbs_path.name}/{source_name(page)}",
    }
    variables = {name: html.escape(value) for name, value in variables.items()} | neighbours(page, parts)
    variables["navigation"] = navigation(page, parts)
    try:
        return pandoc(
            page.markdown, f"{config.doc_host}{config.doc_baseurl}/",
            "--standalone", "--toc", "--toc-depth=3", f"--template={ASSETS / 'page.html'}",
            *(f"--variable={name}={value}" for name, value in variables.items() if value),
        )
    except ValueError as error:
        raise SystemExit(f"{page.source}: {error}") from None


def pandoc(markdown: str, base: str, *options: str) -> str:
    "HTML from markdown in Quarto's dialect; links below `base` become relative. Raises ValueError with what pandoc says."
    command = [
        pypandoc.get_pandoc_path(), "--from=markdown+lists_without_preceding_blankline", "--to=html5", "--wrap=none", "--katex",
        f"--lua-filter={ASSETS / 'quarto.lua'}", f"--metadata=base:{base}", *options,
    ]
    done = subprocess.run(command, input=markdown, capture_output=True, text=True, encoding="utf-8")
    if done.returncode or done.stderr:
        raise ValueError(f"pandoc: {done.stderr}")
    return done.stdout


def source_name(page: Page) -> str:
    "The file in the repository: a markdown page is printed by a script."
    return page.source if page.source.endswith(".ipynb") else f"{page.source}.py"


def part_line(page: Page, parts: list[Part]) -> str:
    "`Part 2 · Attention · chapter 21`, above the title."
    part = next(part for part in parts if page in part.pages)
    words = [f"Part {part.title}" if part.title[:1].isdigit() else part.title, f"chapter {page.number}" if page.number else ""]
    return " · ".join(word for word in words if word)


def neighbours(page: Page, parts: list[Part]) -> dict[str, str]:
    "Links to the pages before and after."
    pages = [page for part in parts for page in part.pages]
    at = pages.index(page)
    around = {"previous": pages[at - 1] if at else None, "next": pages[at + 1] if at + 1 < len(pages) else None}
    return {rel: f'<a rel="{rel[:4]}" class="{rel}" href="{p.output}">{html.escape(p.title)}</a>' for rel, p in around.items() if p}


def navigation(current: Page, parts: list[Part]) -> str:
    "The left sidebar."
    return "".join(navigation_part(current, part) for part in parts)


def navigation_part(current: Page, part: Part) -> str:
    "The pages of a part, below its title; only the open page's part is unfolded, the first one on the landing page."
    pages = f"<ul>{''.join(navigation_entries(current, part.pages))}</ul>"
    unfolded = " open" if current in part.pages or (not current.number and part.title.startswith("0")) else ""
    return f"<details{unfolded}><summary>{html.escape(part.title)}</summary>{pages}</details>" if part.title else pages


def navigation_entries(current: Page, pages: list[Page]) -> Iterator[str]:
    "A link to each page, with its number; the open one is marked."
    for page in pages:
        mark = ' aria-current="page"' if page is current else ""
        number = f"<span>{page.number}</span> " if page.number else ""
        yield f'<li><a href="{page.output}"{mark}>{number}{html.escape(page.title)}</a></li>'
