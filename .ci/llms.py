"""Write llms.txt, the map of the book for language models (llmstxt.org), from the sidebar and the chapters' first cells; with --check only compare."""
import json
import sys
from configparser import ConfigParser
from pathlib import Path

import yaml

root = Path(__file__).resolve().parents[1]


def settings() -> dict[str, str]:
    config = ConfigParser(delimiters=["="])
    config.read(root / "settings.ini", encoding="utf-8")
    return dict(config["DEFAULT"])


def chapter_line(name: str, site: str) -> str:
    "One link with the chapter's own summary, from its title cell."
    cells = json.loads((root / "nbs" / name).read_text(encoding="utf-8"))["cells"]
    lines = "".join(cells[0]["source"]).splitlines()
    title, summary = lines[0].removeprefix("# "), next(line for line in lines if line.startswith("> "))
    page = name.removesuffix(".ipynb").lstrip("0123456789_")
    return f"- [{title}]({site}/{page}.html): {summary.removeprefix('> ')}"


def llms_text() -> str:
    "Title, summary, what to know before using it, and every chapter in the order of reading."
    s = settings()
    site, source = s["doc_host"] + s["doc_baseurl"], f"https://raw.githubusercontent.com/{s['user']}/{s['repo']}/{s['branch']}"
    sections = [
        f"# {s['title']}\n\n> {s['description']}.",
        "The notebooks in `nbs/` export the Python package `transformer_nb`, which needs NumPy, matplotlib, tqdm, threadpoolctl and safetensors. "
        "Shapes use the letters B batch, H heads, T queries, S keys, D features, F hidden, V vocabulary; arrays are batch first. "
        "Masks are boolean, True = may attend. Each function `f` has its gradient beside it, `f_bwd`; each layer has `forward` and `backward`.",
        f"## Start\n\n- [README]({source}/README.md): install, train, ask a model from the shell and from Python\n"
        f"- [CONTRIBUTING]({source}/CONTRIBUTING.md): how a chapter is written, exported and tested",
    ]
    for entry in yaml.safe_load((root / "nbs/sidebar.yml").read_text(encoding="utf-8"))["website"]["sidebar"]["contents"]:
        if isinstance(entry, dict):
            lines = [chapter_line(name, site) for name in entry["contents"] if name.endswith(".ipynb")]
            sections.append(f"## {entry['section']}\n\n" + "\n".join(lines))
    return "\n\n".join(sections) + "\n"


if __name__ == "__main__":
    path = root / "llms.txt"
    if "--check" not in sys.argv:
        path.write_text(llms_text(), encoding="utf-8", newline="\n")
    elif not path.exists() or path.read_text(encoding="utf-8") != llms_text():
        sys.exit("not up to date, run python .ci/llms.py: llms.txt")
