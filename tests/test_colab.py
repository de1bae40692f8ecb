"The two cells that `.ci/colab.py` keeps in each chapter: a badge, and what fetches the book in Colab."
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / ".ci/colab.py"
CHAPTERS = sorted((ROOT / "nbs").glob("[0-9][0-9]_*.ipynb"))


def run(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, encoding="utf-8")


def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


@pytest.fixture
def bare(tmp_path):
    "A chapter without the two cells, in a folder of its own."
    path = tmp_path / "22_multi_head.ipynb"
    notebook = json.loads((ROOT / "nbs" / path.name).read_text(encoding="utf-8"))
    notebook["cells"] = [cell for cell in notebook["cells"] if "olab" not in "".join(cell["source"])]
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    return path


def test_every_chapter_has_both_cells():
    done = run("--check")
    assert done.returncode == 0, done.stderr


def test_two_cells_below_the_title_and_nothing_else_changes(bare):
    before = cells(bare)
    assert run("--check", bare).returncode == 1
    assert run(bare).returncode == 0
    title, badge, setup, *rest = cells(bare)
    assert [title, *rest] == before
    assert badge["source"][0].endswith("/blob/main/nbs/22_multi_head.ipynb)") and (ROOT / "nbs/images/colab.svg").is_file()
    assert setup["source"][0] == "#| hide\n" and setup["outputs"] == []
    once = bare.read_bytes()
    assert run(bare).returncode == 0 and bare.read_bytes() == once and run("--check", bare).returncode == 0


def test_other_words_are_replaced_in_place(bare):
    run(bare)
    right = bare.read_bytes()
    bare.write_bytes(right.replace(b"--quiet", b"--verbose").replace(b"blob/main", b"blob/master"))
    assert run("--check", bare).returncode == 1
    assert run(bare).returncode == 0 and bare.read_bytes() == right


def test_a_notebook_without_a_title_is_refused(bare):
    notebook = json.loads(bare.read_text(encoding="utf-8"))
    del notebook["cells"][0]
    bare.write_text(json.dumps(notebook), encoding="utf-8")
    before = bare.read_bytes()
    done = run(bare)
    assert done.returncode and "22_multi_head.ipynb: the first cell has to be the title" in done.stderr and bare.read_bytes() == before


@pytest.mark.parametrize(("shell", "expected"), [
    ("<ipykernel.zmqshell.ZMQInteractiveShell object>", []),
    ("<google.colab._shell.Shell object>", ["git clone", "pip install", "cd -q"]),
])
def test_the_book_is_fetched_in_colab_and_only_there(bare, shell, expected):
    manager = pytest.importorskip("IPython.core.inputtransformer2").TransformerManager()
    done = []

    class Shell:
        def __str__(self):
            return shell

        def system(self, command):
            done.append(command)

        def run_line_magic(self, name, line):
            done.append(f"{name} {line}")

    run(bare)
    names = {"get_ipython": Shell}
    exec(manager.transform_cell("".join(cells(bare)[2]["source"])), names)
    assert len(done) == len(expected) and all(part in command for part, command in zip(expected, done))
    assert set(names) == {"get_ipython", "__builtins__"}  # a chapter that forgets an import still fails
