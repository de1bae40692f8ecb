"""Links from backticked names to where they are documented."""
import re
from pathlib import Path
from typing import Any

from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup

from docs_site.book import Chapter

SAID_AGAIN = ("twin", "speed")  # parts with other versions of what the book has: their `fit` is not the one that other chapters mean
METHOD_LINK = re.compile(r"\]\((\w+\.html#\w+)\.\w+\)")
PRIVATE_LINK = re.compile(r"\[(`_[^`]+`)\]\(\w+\.html[^)]*\)")


class Symbols(NbdevLookup):  # type: ignore[misc]  # nbdev has no types
    "The names that a chapter may mean: all of the package, but those of the parts that say it again only where they are imported."

    def __init__(self, chapter: Chapter | None) -> None:
        super().__init__()
        package = get_config().lib_name
        used = (chapter.module, chapter.sources) if chapter else ()
        self.left_out = {part for part in SAID_AGAIN if not any(f"{package}.{part}" in text for text in used)}

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        return None if isinstance(found, tuple) and self.left_out & set(Path(found[1]).parts) else found


def local_links(text: str) -> str:
    """Links to the site itself become relative, so that they work on a laptop and on a fork.

    A method leads to its class and a private name nowhere: neither has a heading.
    """
    config = get_config()
    text = text.replace(f"]({config.doc_host}{config.doc_baseurl}/", "](")
    text = METHOD_LINK.sub(r"](\1)", text)
    return PRIVATE_LINK.sub(r"\1", text)
