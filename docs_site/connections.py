"""What a chapter builds on and where it is used next, as markdown: from the imports of what the chapters export."""
from importlib import import_module

from nbdev.config import get_config

from docs_site.book import Chapter, chapters, imports, modules, users

FEW = 8  # names in a line; the rest waits in the list at the end
BUILDS_ON, USED_IN = "Builds on", "Used next in"  # headings, and the anchors made of them
Taken = dict[str, tuple[str, ...]]  # a chapter and the names in question


def builds_on(chapter: Chapter) -> Taken:
    "The chapters from which this one takes public names, in the order of reading; nothing for a gathering, which takes all of its part."
    taken = {} if chapter.gathers else {modules()[module].stem: names for module, names in imports(chapter.stem).items()}
    return {stem: public(names) for stem, names in taken.items() if public(names)}


def used_in(chapter: Chapter) -> Taken:
    "The chapters that take public names from this one, in the order of reading."
    return {stem: public(names) for stem, names in users(chapter.stem).items() if public(names)}


def public(names: tuple[str, ...]) -> tuple[str, ...]:
    "Those without a leading underscore."
    return tuple(name for name in names if not name.startswith("_"))


def first_line(chapter: Chapter) -> str:
    "For the top of the page: the chapters that this one builds on, or nothing."
    taken = builds_on(chapter)
    if not taken:
        return ""
    names = [f"[{chapters()[stem].title}]({chapters()[stem].page})" for stem in taken]
    more = [f"[{len(names) - FEW} more](#{anchor(BUILDS_ON)})"] if len(names) > FEW + 1 else []
    shown = names[:FEW] + more if more else names
    return f"::: {{.connections}}\n{BUILDS_ON} {enumerated(shown)}.\n:::"


def enumerated(names: list[str]) -> str:
    "`a, b and c`."
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def last_sections(chapter: Chapter) -> str:
    "For the end of the page: both lists with what is taken, each name linked to its definition."
    both = {BUILDS_ON: entries(builds_on(chapter), {}), USED_IN: entries(used_in(chapter), addresses(chapter.module))}
    return "\n\n".join(f"## {heading}\n\n{lines}" for heading, lines in both.items() if lines)


def entries(taken: Taken, known: dict[str, str]) -> str:
    "A list with a line for each chapter."
    return "\n".join(line(chapters()[stem], names, known or addresses(chapters()[stem].module)) for stem, names in taken.items())


def line(chapter: Chapter, names: tuple[str, ...], known: dict[str, str]) -> str:
    "`- 22 Multi-head attention: names`."
    shown = ", ".join(f"[`{name}`]({known[name]})" if name in known else f"`{name}`" for name in names)
    return f"- {chapter.number} [{chapter.title}]({chapter.page}): {shown}"


def addresses(module: str) -> dict[str, str]:
    "Where each public symbol of a module is documented."
    symbols = import_module(f"{get_config().lib_name}._modidx").d["syms"].get(module, {})
    return {full.removeprefix(f"{module}."): page for full, (page, _) in symbols.items()}


def anchor(heading: str) -> str:
    "The id that pandoc gives a heading."
    return heading.lower().replace(" ", "-")
