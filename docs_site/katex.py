"""KaTeX for the formulas, from the wheel `djangocms-katex`, which carries the files of the npm package unedited."""
from collections.abc import Iterator
from importlib.metadata import files
from pathlib import Path

WHEEL, FOLDER = "djangocms-katex", "vendor/katex/"
WANTED = ("LICENSE", "katex.min.css", "katex.min.js")


def katex_files() -> Iterator[tuple[str, Path]]:
    "Each file that a page needs, and the licence: its name below `katex/`, and where it is installed."
    for file in files(WHEEL) or ():
        name = file.as_posix().partition(FOLDER)[2]
        if name in WANTED or name.endswith(".woff2"):
            yield name, Path(str(file.locate()))


def copy_katex(folder: Path) -> None:
    "Write KaTeX to this folder."
    for name, source in katex_files():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
