"""What the book adds to nbdev's processing of the notebooks, for either renderer (`procs` and `skip_procs` in settings.ini)."""
import ast
import inspect
import re
from pathlib import Path

from execnb.nbio import NbCell, mk_cell
from fastcore.basics import AttrDict
from fastcore.xtras import dict2obj
from nbdev.config import get_config
from nbdev.process import Processor
from nbdev.showdoc import show_doc

from docs_site.book import DEFAULT_EXP, Chapter, chapters
from docs_site.connections import first_line, last_sections
from docs_site.links import Symbols, local_links
from docs_site.stand_in import load
from docs_site.whereabouts import whereabouts

EXPORTED = '#| code-fold: show\n#| code-summary: "Exported source"\n'  # so nbdev marks the code of an `#| exports` cell
SIGNATURE = re.compile(r"```python\n.*?\n```\n\n", re.DOTALL)
SHORT_FIGURE = 6  # lines
VIEWER_LINK = re.compile(r"\[(?P<title>[^]]+)\]\((?P<address>viewer/[\w-]+\.html)\)")
VIEWER_FRAME = """<iframe class="viewer" title="{title}" data-address="{address}"></iframe>
<script>
(frame => {{  // as light or as dark as the page, whichever renderer made it
  const root = document.documentElement, body = document.body
  const dress = () => {{
    const dark = root.dataset.theme === "dark" || body.classList.contains("quarto-dark")
    frame.contentWindow.location.replace(new URL(frame.dataset.address + (dark ? "#dark" : "#light"), location.href))
  }}
  new MutationObserver(dress).observe(root, {{attributeFilter: ["data-theme"]}})
  new MutationObserver(dress).observe(body, {{attributeFilter: ["class"]}})
  dress()
}})(document.currentScript.previousElementSibling)
</script>"""
CODE_OR_CHAPTER = re.compile(r"```.*?```|`[^`\n]*`|\[[^]]*\]\([^)]*\)|\b[Cc]hapters? \d\d\b(?:(?:, | and )\d\d\b)*", re.DOTALL)
CHAPTER = re.compile(r"(?:[Cc]hapter )?(?P<number>\d\d)")  # `chapter 21` is linked as a whole, of `chapters 30 and 31` each number


class ShowDocs(Processor):
    """Fill each `show_doc` cell from the installed module, in place of nbdev's `exec_show_docs`.

    nbdev's own processor runs every cell that contains an import, often without the cells that it needs; this one runs none.
    """

    def __init__(self, nb: AttrDict) -> None:
        super().__init__(nb)
        sources = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "code")
        match = DEFAULT_EXP.search(sources)  # read now: a later processor removes that cell
        self.module = f"{get_config().lib_name}.{match[1]}" if match else None
        self.symbols = Symbols(chapter_of(nb))

    def cell(self, cell: NbCell) -> None:
        if cell.cell_type != "code":
            return
        cell.source = cell.source.removeprefix(EXPORTED)  # the code is what the reader came for
        if not self.module or "show_doc(" not in cell.source:
            return
        code_follows = "".join(following.source for following in self.nb.cells[cell.idx_ + 1:cell.idx_ + 2]).startswith(EXPORTED)
        for node in ast.parse(cell.source).body:
            match node:
                case ast.Expr(value=ast.Call(func=ast.Name(id="show_doc"), args=[shown])):
                    cell.outputs = [self.documentation(ast.unparse(shown), code_follows)]

    def documentation(self, name: str, code_follows: bool) -> AttrDict:
        "The output that `show_doc(name)` would leave, with its line in the source, with backticked symbols linked, and without what the code below repeats."
        symbol = eval(name, dict(vars(load(str(self.module)))))
        text = show_doc(symbol)._repr_markdown_().replace("#LNone", f"#L{inspect.getsourcelines(symbol)[1]}")
        if code_follows:
            text = SIGNATURE.sub("", text, count=1)
        return dict2obj({"output_type": "display_data", "metadata": {}, "data": {"text/markdown": self.symbols.linkify(text)}})


def fold_figures(cell: NbCell) -> None:
    "The code of a figure waits behind a button, unless it is short or the cell says otherwise."
    if cell.cell_type == "code" and "#| label: fig-" in (cell.source or "") and "#| code-fold" not in cell.source:
        code = [line for line in cell.source.splitlines() if not line.startswith("#|")]
        if len(code) > SHORT_FIGURE:
            cell.source = f'#| code-fold: true\n#| code-summary: "Code of the figure"\n{cell.source}'


class Whereabouts(Processor):
    "Below the title of a chapter a map of the model with its place lit, and what it builds on; at its end the chapters that use it."

    def begin(self) -> None:
        chapter = chapter_of(self.nb)
        if chapter:
            top = [f"```{{=html}}\n{whereabouts(chapter)}\n```", first_line(chapter)]
            self.nb.cells[2:2] = [mk_cell(text, cell_type="markdown") for text in top if text]  # below title and nbdev's warning
            if end := last_sections(chapter):
                self.nb.cells.append(mk_cell(end, cell_type="markdown"))


def frame_viewer(cell: NbCell) -> None:
    "A paragraph that is nothing but a link to a saved viewer shows that viewer above the link."
    if cell.cell_type == "markdown" and (link := VIEWER_LINK.fullmatch((cell.source or "").strip())):
        cell.source = f"```{{=html}}\n{VIEWER_FRAME.format(**link.groupdict())}\n```\n\n{cell.source}"


class Links(Processor):
    """Backticked symbols and `chapter 21` become links, in place of nbdev's `add_links`.

    Links within the site are relative, but for the notebook that makes the README.
    """

    def begin(self) -> None:
        self.is_readme = Path(self.nb.path_).name == get_config().readme_nb
        self.symbols = Symbols(chapter_of(self.nb))

    def cell(self, cell: NbCell) -> None:
        if cell.cell_type == "markdown" and cell.source:
            cell.source = self.symbols.linkify(cell.source)
            if not self.is_readme:
                cell.source = CODE_OR_CHAPTER.sub(self.link_chapter, local_links(cell.source))
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/markdown" in data:
                data["text/markdown"] = local_links("".join(data["text/markdown"]))

    @staticmethod
    def link_chapter(match: re.Match[str]) -> str:
        return match[0] if match[0][0] in "`[" else CHAPTER.sub(link_number, match[0])


def link_number(match: re.Match[str]) -> str:
    "A link to the chapter of this number, if there is one."
    page = next((chapter.page for chapter in chapters().values() if chapter.number == match["number"]), "")
    return f"[{match[0]}]({page})" if page else match[0]


def chapter_of(notebook: AttrDict) -> Chapter | None:
    "The chapter in a notebook, or none for the landing page and the like."
    return chapters().get(Path(notebook.path_).stem)
