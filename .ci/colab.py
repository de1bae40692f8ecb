"""Give each chapter two cells below its title: a badge that opens it in Colab, and a hidden one that fetches the book there; with --check only compare.

Whatever else is in a notebook stays as it is, byte for byte, so that a second run changes nothing. `python .ci/colab.py nbs/22_multi_head.ipynb` does one.
"""
import argparse
import hashlib
import json
from configparser import ConfigParser
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
Cell = dict[str, Any]

BADGE_START, SETUP_START = "[![Open in Colab]", "#| hide\n# In Colab, and only there,"
BADGE = BADGE_START + "(images/colab.svg)](https://colab.research.google.com/github/{user}/{repo}/blob/{branch}/nbs/{name})"
SETUP = SETUP_START + """ fetch the book and install it.
if "google.colab" in str(get_ipython()):
    !test -d /content/{repo} || git clone --quiet --depth 1 --branch {branch} https://github.com/{user}/{repo} /content/{repo}
    %pip install --quiet /content/{repo}
    %cd -q /content/{repo}/nbs"""


def settings() -> dict[str, str]:
    "What settings.ini says about the repository."
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return dict(config["DEFAULT"])


def make_cell(kind: str, source: str) -> Cell:
    "A cell as nbdev_clean leaves it; the id is made of the text, so that it stays."
    identity = {"cell_type": kind, "id": hashlib.sha256(f"{source}#1".encode()).hexdigest()[:8], "metadata": {}}
    code: Cell = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return dict(sorted((identity | code | {"source": source.splitlines(keepends=True)}).items()))


def is_ours(cell: Cell) -> bool:
    "Whether a run of this script made the cell, perhaps one with other words."
    return "".join(cell["source"]).startswith((BADGE_START, SETUP_START))


def with_colab(text: str, name: str) -> str:
    "The text of a notebook with both cells behind its title. Raises ValueError if no title comes first."
    notebook = json.loads(text)
    title, *rest = notebook["cells"]
    if title["cell_type"] != "markdown" or not "".join(title["source"]).startswith("# "):
        raise ValueError(f"{name}: the first cell has to be the title")
    words = settings() | {"name": name}
    ours = [make_cell("markdown", BADGE.format(**words)), make_cell("code", SETUP.format(**words))]
    notebook["cells"] = [title, *ours, *(cell for cell in rest if not is_ours(cell))]
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    "Bring the notebooks up to date, or fail if one is not."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, help="by default all chapters in nbs/")
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a notebook is not up to date")
    args = parser.parse_args()
    stale = []
    for path in args.notebooks or sorted((ROOT / "nbs").glob("[0-9][0-9]_*.ipynb")):
        old = path.read_text(encoding="utf-8")
        new = with_colab(old, path.name)
        if new != old:
            stale.append(path.name)
            if not args.check:
                path.write_text(new, encoding="utf-8", newline="\n")
    if stale and args.check:
        raise SystemExit(f"not up to date, run python .ci/colab.py: {', '.join(stale)}")
    print(f"{len(stale)} notebooks changed" if stale else "up to date")


if __name__ == "__main__":
    main()
