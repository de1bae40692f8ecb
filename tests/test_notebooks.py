"Every chapter runs from top to bottom through nbdev's own runner, and keeps the book's rules."
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

NBS = Path(__file__).parents[1] / "nbs"
NOTEBOOKS = sorted(NBS.glob("*.ipynb"))
TIME_LIMIT = 300  # seconds for one chapter
HAS_JAX = importlib.util.find_spec("jax") is not None


def needs_jax(path):
    "Whether cells of a chapter carry the directive `jax`: nbdev_test leaves them out unless it is told otherwise."
    return any(re.search(r"^#\| jax$", "".join(cell["source"]), re.M) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"])


@pytest.mark.parametrize("path", [pytest.param(p, id=p.stem, marks=[pytest.mark.jax] if needs_jax(p) else []) for p in NOTEBOOKS])
def test_runs(path):
    if needs_jax(path) and not HAS_JAX:
        pytest.skip("needs the extra jax")
    code = "import sys; from nbdev.test import nbdev_test; nbdev_test(path=sys.argv[1], flags=sys.argv[2], n_workers=0, do_print=True)"
    run = subprocess.run(
        [sys.executable, "-c", code, str(path), "jax" if HAS_JAX else ""],
        cwd=NBS.parent, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}, capture_output=True, text=True, encoding="utf-8", timeout=TIME_LIMIT,
    )
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-5000:]
    assert re.findall(r"^- Completed .*?([^/\\\s]+)$", run.stdout, re.M) == [path.name], f"not this chapter alone: {run.stdout}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_rules(path):
    assert path.stat().st_size < 300_000, f"{path.stat().st_size} bytes"
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            assert output["output_type"] != "error", source
            assert "text/html" not in data, f"html output of: {source}"
            assert output.get("name") != "stderr", f"stderr output of: {source}"
            if "image/png" in data:
                assert re.search(r"^#\| fig-alt: .{10}", source, re.M), f"a figure without fig-alt: {source}"


def test_all_chapters_are_in_the_sidebar():
    listed = re.findall(r"[\w]+\.ipynb", (NBS / "sidebar.yml").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(p.name for p in NOTEBOOKS)


def test_book_weight():  # so that a clone stays light
    assert sum(p.stat().st_size for p in NOTEBOOKS) < 10_000_000
