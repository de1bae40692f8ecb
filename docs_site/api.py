"""The index of all public symbols by module, in the order of the book."""
import inspect
import re
from collections.abc import Iterator
from importlib import import_module

from nbdev.config import get_config

from docs_site.book import modules
from docs_site.links import Symbols, local_links
from docs_site.stand_in import load

Address = tuple[str, str]  # page and anchor, file


def api_index() -> str:
    "Markdown: a section for each module, an entry for each symbol, linked to its definition."
    config = get_config()
    syms: dict[str, dict[str, Address]] = import_module(f"{config.lib_name}._modidx").d["syms"]
    order = list(modules())
    return "\n".join(line for name in sorted(syms, key=order.index) for line in module_lines(name, syms[name]))


def module_lines(name: str, symbols: dict[str, Address]) -> Iterator[str]:
    "The section of one module; nothing if it has no public symbol of its own."
    module = load(name)
    public = {full.removeprefix(f"{name}."): address for full, (address, _) in symbols.items()}
    rows = [(symbol, address) for symbol, address in public.items() if symbol in module.__all__]
    if rows:
        yield f"\n## {name.partition('.')[2]}\n\n{first_line(module, name)}\n"
        for symbol, address in rows:
            yield f"[`{symbol}`]({address})\n\n:   {first_line(getattr(module, symbol), name)}\n"


def first_line(symbol: object, module: str) -> str:
    "The summary of a docstring in a module, with backticked symbols linked."
    text = (inspect.getdoc(symbol) or "").partition("\n\n")[0].replace("\n", " ")
    text = local_links(Symbols(modules()[module]).linkify(text))
    return re.sub(r"(`[^`]*`)|<", lambda match: match[1] or r"\<", text)  # a name in backticks needs no backslash
