"""README.md and its pictures from nbs/index.ipynb."""
import base64
import json
from pathlib import Path

from docs_site.notebooks import joined

NOTEBOOK, IMAGES, README = Path("nbs/index.ipynb"), Path("nbs/images"), Path("README.md")


def readme_files() -> dict[Path, bytes]:
    "README.md and its pictures: the cells of the index notebook and their outputs, in order."
    parts: list[str] = []
    files: dict[Path, bytes] = {}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        source = joined(cell["source"])
        if "#| hide" in source or not source.strip():
            continue
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        options = dict(line[3:].split(":", 1) for line in source.splitlines() if line.startswith("#| ") and ":" in line)
        if options.get("echo", "").strip() != "false":
            code = "\n".join(line for line in source.splitlines() if not line.startswith("#|"))
            parts.append(f"```python\n{code}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                picture = IMAGES / f"{options['label'].strip().removeprefix('fig-')}.png"
                files[picture] = base64.b64decode(joined(data["image/png"]))
                parts.append(f"![{json.loads(options['fig-alt'])}]({picture.as_posix()})")
            else:
                text = joined(output.get("text") or data.get("text/plain", ""))
                parts.append(f"```text\n{text.rstrip()}\n```")
    return files | {README: ("\n\n".join(parts) + "\n").encode()}


def stale_files() -> dict[Path, bytes]:
    "Those that are not what the notebook says, with what it says."
    return {path: content for path, content in readme_files().items() if not path.exists() or path.read_bytes() != content}


def write_readme() -> None:
    "Bring README.md and nbs/images/ up to date."
    for path, content in stale_files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        print(f"wrote {path}")


def check_readme() -> None:
    "Fail unless README.md and nbs/images/ are up to date."
    if stale := stale_files():
        names = ", ".join(path.name for path in stale)
        raise SystemExit(f"not up to date, run python -m docs_site --readme: {names}")
