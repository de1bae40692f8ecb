"""What the book adds to nbdev's processing of the notebooks, for either renderer (`procs` and `skip_procs` in settings.ini)."""
import ast
import inspect
import re
from functools import cache
from importlib import import_module
from pathlib import Path

from execnb.nbio import NbCell, mk_cell
from fastcore.basics import AttrDict
from fastcore.xtras import dict2obj
from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup
from nbdev.process import Processor
from nbdev.showdoc import show_doc

from docs_site.whereabouts import model_map

DEFAULT_EXP = re.compile(r"^#\|\s*default_exp\s+(\S+)", re.MULTILINE)
SHORT_FIGURE = 6  # lines
METHOD_LINK = re.compile(r"\]\((\w+\.html#\w+)\.\w+\)")
PRIVATE_LINK = re.compile(r"\[(`_[^`]+`)\]\(\w+\.html[^)]*\)")
CODE_OR_CHAPTER = re.compile(r"```.*?```|`[^`\n]*`|\[[^]]*\]\([^)]*\)|\b(?P<text>[Cc]hapter (?P<number>\d\d))\b", re.DOTALL)


class ShowDocs(Processor):
    """Fill each `show_doc` cell from the installed module, in place of nbdev's `exec_show_docs`.

    nbdev's own processor runs every cell that contains an import, often without the cells that it needs; this one runs none.
    """

    def __init__(self, nb: AttrDict) -> None:
        super().__init__(nb)
        sources = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "code")
        match = DEFAULT_EXP.search(sources)  # read now: a later processor removes that cell
        self.module = f"{get_config().lib_name}.{match[1]}" if match else None

    def cell(self, cell: NbCell) -> None:
        if cell.cell_type != "code" or not self.module or "show_doc(" not in cell.source:
            return
        for node in ast.parse(cell.source).body:
            match node:
                case ast.Expr(value=ast.Call(func=ast.Name(id="show_doc"), args=[shown])):
                    cell.outputs = [self.documentation(ast.unparse(shown))]

    def documentation(self, name: str) -> AttrDict:
        "The output that `show_doc(name)` would leave, with its line in the source and with backticked symbols linked."
        symbol = eval(name, dict(vars(import_module(str(self.module)))))
        text = show_doc(symbol)._repr_markdown_().replace("#LNone", f"#L{inspect.getsourcelines(symbol)[1]}")
        return dict2obj({"output_type": "display_data", "metadata": {}, "data": {"text/markdown": NbdevLookup().linkify(text)}})


def fold_figures(cell: NbCell) -> None:
    "The code of a figure waits behind a button, unless it is short or the cell says otherwise."
    if cell.cell_type == "code" and "#| label: fig-" in (cell.source or "") and "#| code-fold" not in cell.source:
        code = [line for line in cell.source.splitlines() if not line.startswith("#|")]
        if len(code) > SHORT_FIGURE:
            cell.source = f'#| code-fold: true\n#| code-summary: "Code of the figure"\n{cell.source}'


class Whereabouts(Processor):
    "A map of the model below the title of each chapter, with the place of the chapter lit."

    def begin(self) -> None:
        number, _, chapter = Path(self.nb.path_).stem.partition("_")
        if number.isdigit():
            self.nb.cells.insert(2, mk_cell(f"```{{=html}}\n{model_map(chapter)}\n```", cell_type="markdown"))  # below title and nbdev's warning


@cache
def chapter_pages() -> dict[str, str]:
    "The page of each chapter number: `21` → `scaled_dot_product.html`."
    names = (path.stem.partition("_") for path in get_config().nbs_path.glob("[0-9][0-9]_*.ipynb"))
    return {number: f"{name}.html" for number, _, name in names}


def local_links(text: str) -> str:
    """Links to the site itself become relative, so that they work on a laptop and on a fork.

    A method leads to its class and a private name nowhere: neither has a heading.
    """
    config = get_config()
    text = text.replace(f"]({config.doc_host}{config.doc_baseurl}/", "](")
    text = METHOD_LINK.sub(r"](\1)", text)
    return PRIVATE_LINK.sub(r"\1", text)


class Links(Processor):
    "`chapter 21` becomes a link, and links to symbols become local, but for the notebook that makes the README."

    def begin(self) -> None:
        self.is_readme = Path(self.nb.path_).name == get_config().readme_nb

    def cell(self, cell: NbCell) -> None:
        if self.is_readme:
            return
        if cell.cell_type == "markdown" and cell.source:
            cell.source = CODE_OR_CHAPTER.sub(self.link_chapter, local_links(cell.source))
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/markdown" in data:
                data["text/markdown"] = local_links("".join(data["text/markdown"]))

    @staticmethod
    def link_chapter(match: re.Match[str]) -> str:
        page = chapter_pages().get(match["number"] or "")
        return f"[{match['text']}]({page})" if page else match[0]
