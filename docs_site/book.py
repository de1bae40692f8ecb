"""The chapters in the order of reading, and which of them needs which: read from the notebooks and from the imports of what they export."""
import ast
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from nbdev.config import get_config

DEFAULT_EXP = re.compile(r"^#\|\s*default_exp\s+(\S+)", re.MULTILINE)
MAGIC = re.compile(r"^(\s*)[%!].*$", re.MULTILINE)
Imports = dict[str, tuple[str, ...]]  # module → names taken from it, `*` among them


@dataclass(frozen=True)
class Chapter:
    "What the site needs to know of a numbered notebook."
    stem: str  # 22_multi_head
    title: str  # Multi-head attention
    module: str  # transformer_nb.attention.multi_head, or nothing
    sources: str  # all its code

    @property
    def name(self) -> str:
        return self.stem[3:]

    @property
    def number(self) -> str:
        return self.stem[:2]

    @property
    def page(self) -> str:
        return f"{self.name}.html"

    @property
    def gathers(self) -> bool:
        "Whether it only makes the names of a part importable in one line."
        return self.module.endswith(".__init__")


def sidebar_entries() -> list[Any]:
    "What sidebar.yml lists: files, and sections with files."
    text = (get_config().nbs_path / "sidebar.yml").read_text(encoding="utf-8")
    entries: list[Any] = yaml.safe_load(text)["website"]["sidebar"]["contents"]
    return entries


def sidebar_files() -> list[str]:
    "The files of sidebar.yml, in the order of reading."
    return [name for entry in sidebar_entries() for name in ([entry] if isinstance(entry, str) else entry["contents"])]


@cache
def chapters() -> dict[str, Chapter]:
    "The numbered notebooks by their stem, in the order of reading."
    nbs = get_config().nbs_path
    return {Path(name).stem: read_chapter(nbs / name) for name in sidebar_files() if re.match(r"\d\d_.*\.ipynb$", name)}


def read_chapter(path: Path) -> Chapter:
    "Title, module and code of a notebook."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    title = "".join(cells[0]["source"]).splitlines()[0].removeprefix("# ")
    sources = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    exported = DEFAULT_EXP.search(sources)
    return Chapter(path.stem, title, f"{get_config().lib_name}.{exported[1]}" if exported else "", sources)


@cache
def modules() -> dict[str, Chapter]:
    "The chapter of each module that is more than a gathering."
    return {chapter.module: chapter for chapter in chapters().values() if chapter.module and not chapter.gathers}


@cache
def imports(stem: str) -> Imports:
    "What a chapter takes from the modules of the others: what its module imports, or, if it exports nothing, what its cells import."
    chapter = chapters()[stem]
    if chapter.module:
        tree, package = ast.parse(module_file(chapter.module).read_text(encoding="utf-8")), chapter.module.rpartition(".")[0]
    else:
        tree, package = ast.parse(MAGIC.sub(r"\1pass", chapter.sources)), ""
    taken: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            source = absolute(node, package)
            for name in (alias.name for alias in node.names):
                module = source if source in modules() else home(source, name)
                if module and module != chapter.module:
                    taken.setdefault(module, []).append(name)
    order = list(modules())
    return {module: tuple(dict.fromkeys(taken[module])) for module in sorted(taken, key=order.index)}


def module_file(module: str) -> Path:
    "Where a module stands."
    path: Path = get_config().config_path.joinpath(*module.split(".")).with_suffix(".py")
    return path


def absolute(node: ast.ImportFrom, package: str) -> str:
    "The full name of the module behind `from ..layers.linear import …` in this package."
    above = package.split(".")
    return ".".join([*above[:len(above) - node.level + 1], node.module or ""]).strip(".") if node.level else node.module or ""


def home(package: str, name: str) -> str:
    "The module that defines a name which was imported from a part, or which is itself a module of it; or nothing."
    if f"{package}.{name}" in modules():
        return f"{package}.{name}"
    return next((module for module in modules() if module.startswith(f"{package}.") and name in defined(module)), "")


@cache
def defined(module: str) -> frozenset[str]:
    "The names that stand at the top level of a module, without those that it imports."
    names: set[str] = set()
    for node in ast.parse(module_file(module).read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Assign(targets=targets):
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return frozenset(names)


def users(stem: str) -> dict[str, tuple[str, ...]]:
    "The chapters that take something from the module of this one, by their stem, and what they take."
    module = chapters()[stem].module
    return {} if not module else {other.stem: imports(other.stem)[module] for other in chapters().values()
                                  if not other.gathers and other.stem != stem and module in imports(other.stem)}
