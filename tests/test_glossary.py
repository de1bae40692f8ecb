"The glossary says what the chapters say: each term and each name in code occurs in the chapter that its entry leads to."
import json
import re
from pathlib import Path

import pytest

NBS = Path(__file__).parents[1] / "nbs"


def cells(path):
    return ["".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]


def entries(text):
    "Pairs of a term and what is said about it."
    return [tuple(part.strip() for part in entry.split("\n", 1)) for entry in re.split(r"^### ", text, flags=re.M)[1:]]


def faults(text):
    "What is wrong with a glossary."
    terms = entries(text)
    names = [term.casefold() for term, _ in terms]
    found = [f"{b} stands behind {a}" for a, b in zip(names, names[1:]) if b <= a]
    letters = dict.fromkeys(name[0].upper() for name in names)
    if re.findall(r"^## (.*)", text, re.M) != list(letters):
        found.append(f"the sections are not those of the letters {''.join(letters)}")
    for term, entry in terms:
        number = re.findall(r"[Cc]hapter (\d\d)", entry)
        chapter = list(NBS.glob(f"{number[0]}_*.ipynb")) if len(number) == 1 else []
        if not chapter:
            found.append(f"{term}: leads to {number or 'no chapter'}")
            continue
        said = "\n".join(cells(chapter[0]))
        found += [f"{term} does not occur in {chapter[0].stem}"] * (term.casefold() not in said.casefold())
        found += [f"{term}: {name} does not occur in {chapter[0].stem}" for name in re.findall(r"`([^`]+)`", entry)
                  if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said)]
    return found


def test_glossary():
    text = "\n\n".join(cells(NBS / "glossary.ipynb"))
    assert not faults(text)
    assert len(entries(text)) > 90


@pytest.mark.parametrize(("text", "fault"), [
    ("## A\n\n### attention\n\nOf some kind, `w`. Chapter 21.", None),
    ("## B\n\n### beam\n\nOf some kind. Chapter 10.", "beam does not occur in 10_linear"),
    ("## A\n\n### attention\n\nIn code `Wq`. Chapter 21.", "attention: Wq does not occur in 21_scaled_dot_product"),
    ("## A\n\n### attention\n\nOf some kind.", "attention: leads to no chapter"),
    ("## A\n\n### attention\n\nOf some kind. Chapter 99.", "attention: leads to ['99']"),
    ("## M\n\n### mask\n\nX. Chapter 20.\n\n## K\n\n### key\n\nX. Chapter 20.", "key stands behind mask"),
    ("## A\n\n### mask\n\nX. Chapter 20.", "the sections are not those of the letters M"),
])
def test_faults_are_noticed(text, fault):
    assert faults(text) == ([fault] if fault else [])
