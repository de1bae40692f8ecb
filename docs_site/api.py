"""The index of all public symbols by module, in the order of the book."""
import inspect
from collections.abc import Iterator
from importlib import import_module

import yaml
from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup

from docs_site.processors import local_links

Address = tuple[str, str]  # page and anchor, file


def api_index() -> str:
    "Markdown: a section for each module, an entry for each symbol, linked to its definition."
    config = get_config()
    syms: dict[str, dict[str, Address]] = import_module(f"{config.lib_name}._modidx").d["syms"]
    return "\n".join(line for name in sorted(syms, key=lambda name: reading_order(syms[name])) for line in module_lines(name, syms[name]))


def reading_order(symbols: dict[str, Address]) -> int:
    "The place in the sidebar of the page that documents these."
    sidebar = yaml.safe_load((get_config().nbs_path / "sidebar.yml").read_text(encoding="utf-8"))["website"]["sidebar"]["contents"]
    pages = [page for entry in sidebar if isinstance(entry, dict) for page in entry["contents"]]
    page = next((address.partition(".html")[0] for address, _ in symbols.values()), "")
    return next((i for i, name in enumerate(pages) if name.endswith(f"_{page}.ipynb") and name.count("_") == page.count("_") + 1), len(pages))


def module_lines(name: str, symbols: dict[str, Address]) -> Iterator[str]:
    "The section of one module; nothing if it has no public symbol of its own."
    module = import_module(name)
    public = {full.removeprefix(f"{name}."): address for full, (address, _) in symbols.items()}
    rows = [(symbol, address) for symbol, address in public.items() if symbol in module.__all__]
    if rows:
        yield f"\n## {name.partition('.')[2]}\n\n{first_line(module)}\n"
        for symbol, address in rows:
            yield f"[`{symbol}`]({address})\n\n:   {first_line(getattr(module, symbol))}\n"


def first_line(symbol: object) -> str:
    "The summary of a docstring, with backticked symbols linked."
    text = (inspect.getdoc(symbol) or "").partition("\n\n")[0].replace("\n", " ")
    return local_links(NbdevLookup().linkify(text)).replace("<", r"\<")
