"""Write README.md from nbs/index.ipynb, pictures to nbs/images/; with --check only say whether they are up to date."""
import base64
import json
import sys
from pathlib import Path

root = Path(__file__).resolve().parents[1]


def readme_files() -> dict[Path, bytes]:
    "README.md and its pictures: the cells of the index notebook and their outputs, in order."
    notebook = json.loads((root / "nbs/index.ipynb").read_text(encoding="utf-8"))
    parts, files = [], {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if "#| hide" in source or not source.strip():
            continue
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        options = dict(line[3:].split(":", 1) for line in source.splitlines() if line.startswith("#| ") and ":" in line)
        if options.get("echo", "").strip() != "false":
            parts.append("```python\n" + "\n".join(line for line in source.splitlines() if not line.startswith("#|")) + "\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                name = options["label"].strip().removeprefix("fig-") + ".png"
                files[root / "nbs/images" / name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![{json.loads(options['fig-alt'])}](nbs/images/{name})")
            else:
                text = "".join(output.get("text", data.get("text/plain", "")))
                parts.append(f"```text\n{text.rstrip()}\n```")
    return files | {root / "README.md": ("\n\n".join(parts) + "\n").encode()}


if __name__ == "__main__":
    stale = [path for path, content in readme_files().items() if not path.exists() or path.read_bytes() != content]
    if "--check" in sys.argv:
        sys.exit(f"not up to date, run python .ci/readme.py: {', '.join(p.name for p in stale)}" if stale else 0)
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(readme_files()[path])
        print(f"wrote {path.relative_to(root)}")
