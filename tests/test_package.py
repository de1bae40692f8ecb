"What people install: wheel and sdist are whole, and the wheel works in an empty environment, far from the checkout, as the README says."
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from configparser import ConfigParser
from email import message_from_bytes
from pathlib import Path

import pytest

slow = pytest.mark.slow  # builds, and asks PyPI for the build's tools and for what the package requires
ROOT = Path(__file__).parents[1]
LEFT_OUT = [".git", ".venv", ".hypothesis", ".*_cache", ".ipynb_checkpoints", "build", "dist", "*.egg-info", "__pycache__", "runs", "_docs", "_proc"]  # what a fresh checkout does not have
config = ConfigParser(delimiters=["="])
config.read(ROOT / "settings.ini", encoding="utf-8")
SETTINGS = config["DEFAULT"]
VERSION = SETTINGS["version"]
STEM = f"transformer_nb-{VERSION}"


OFFLINE = re.compile(r"NewConnectionError|ConnectTimeoutError|Failed to establish a new connection|name resolution")


def run(*argv, cwd):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", "MPLBACKEND": "agg"}
    environment.pop("PYTHONPATH", None)  # it could lead back to the checkout
    done = subprocess.run([str(a) for a in argv], cwd=cwd, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=600)
    if done.returncode and OFFLINE.search(done.stdout + done.stderr):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, f"{argv}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    "The folder with the sdist, and with the wheel that was built from the unpacked sdist."
    pytest.importorskip("build")
    checkout = tmp_path_factory.mktemp("build") / "checkout"
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(*LEFT_OUT))
    run(sys.executable, "-m", "build", "--outdir", checkout.parent / "dist", checkout, cwd=checkout.parent)
    return checkout.parent / "dist"


@pytest.fixture(scope="module")
def wheel(dist):
    return dist / f"{STEM}-py3-none-any.whl"


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    "The folder with the programs of an environment that holds the wheel and what it requires, nothing else."
    folder = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if sys.platform == "win32" else "bin")
    run(programs / "python", "-m", "pip", "install", "--quiet", wheel, cwd=folder)
    return programs


def metadata(wheel):
    return message_from_bytes(zipfile.ZipFile(wheel).read(f"{STEM}.dist-info/METADATA"))


@slow
def test_pypi_would_take_both(dist):
    pytest.importorskip("twine")
    assert sorted(p.name for p in dist.iterdir()) == [f"{STEM}-py3-none-any.whl", f"{STEM}.tar.gz"]
    assert run(sys.executable, "-m", "twine", "check", "--strict", *dist.iterdir(), cwd=dist).count("PASSED") == 2


@slow
def test_wheel_holds_the_package_and_nothing_else(wheel):
    names = [n for n in zipfile.ZipFile(wheel).namelist() if not n.startswith(f"{STEM}.dist-info/")]
    ours = [p.relative_to(ROOT).as_posix() for p in (ROOT / "transformer_nb").rglob("*") if p.suffix == ".py" or p.name == "py.typed"]
    assert sorted(names) == sorted(ours) and "transformer_nb/py.typed" in names
    assert wheel.stat().st_size < 300_000


@slow
def test_metadata(wheel):
    about = metadata(wheel)
    assert (about["Name"], about["Version"], about["License-Expression"]) == ("transformer_nb", VERSION, "Apache-2.0")
    assert about["Requires-Python"] == f">={SETTINGS['min_python']}"
    assert {"dev", "docs", "torch"} <= set(about.get_all("Provides-Extra"))
    needed = [r for r in about.get_all("Requires-Dist") if "extra ==" not in r]
    assert needed == SETTINGS["requirements"].split()
    assert not re.search(r"\]\((?!https://|#)", about.get_payload()), "PyPI cannot follow a relative link of the README"


@slow
def test_sdist_holds_the_sources_of_book_and_tests(dist):
    with tarfile.open(dist / f"{STEM}.tar.gz") as archive:
        names = {n.removeprefix(f"{STEM}/") for n in archive.getnames()}
    wanted = {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "settings.ini", "setup.py", "pyproject.toml", "uv.lock", "nbs/sidebar.yml"}
    wanted |= {p.relative_to(ROOT).as_posix() for p in [*ROOT.glob("nbs/*.ipynb"), *ROOT.glob("tests/*.py"), *ROOT.glob("tests/*.safetensors")]}
    assert wanted <= names, wanted - names
    assert not [n for n in names if re.search(r"(^|/)(__pycache__|_proc|_docs|runs|\.ipynb_checkpoints)(/|$)", n)]
    assert (dist / f"{STEM}.tar.gz").stat().st_size < 10_000_000


@slow
def test_readme_example_outside_the_checkout(environment, tmp_path):
    code, score, words = re.search(r"```python\n(.*?)```.*?```text\n(.*?)\n```.*?```text\n(.*?)\n```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S).groups()
    *lines, last = code.strip().splitlines()
    (tmp_path / "example.py").write_text("\n".join([*lines, f"print({last})"]), encoding="utf-8")
    printed = run(environment / "python", "example.py", cwd=tmp_path).splitlines()
    share = re.compile(r"(\d+\.\d)% of 1,000")
    assert float(share.match(printed[0])[1]) > 98 and share.sub("", printed[0]) == share.sub("", score)  # another processor rounds differently
    assert printed[1:] == [words] and (tmp_path / "reverse.safetensors").exists()


@slow
def test_program_outside_the_checkout(environment, tmp_path):
    program = environment / "transformer-nb"
    assert run(program, "--version", cwd=tmp_path).strip() == f"transformer-nb {VERSION}"
    assert "(1, 11, 30)" in run(program, "forward", "apple tree", cwd=tmp_path)
    tiny = "--d-model 8 --heads 2 --layers 1 --steps 6 --eval-every 3 --eval-size 4 --test-size 10 --quiet".split()
    assert "exact match on 10 held-out strings" in run(program, "train", "reverse", *tiny, cwd=tmp_path)
    assert run(program, "predict", "runs/reverse", "apple", "--attention", "a.png", cwd=tmp_path).startswith("apple -> ")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@slow
def test_every_module_imports_and_comes_from_the_wheel(environment, tmp_path):
    code = """
import importlib, pkgutil, transformer_nb
for m in pkgutil.walk_packages(transformer_nb.__path__, "transformer_nb."):
    if not m.name.startswith("transformer_nb.twin"): importlib.import_module(m.name)
try: import transformer_nb.twin  # needs an extra, and says so
except ImportError as e: assert "transformer-nb[jax]" in str(e), e
else: raise AssertionError("jax is not installed here")
print(transformer_nb.__version__, transformer_nb.__file__)
"""
    version, file = run(environment / "python", "-c", code, cwd=tmp_path).strip().split(" ", 1)
    assert version == VERSION and Path(file).is_relative_to(environment.parent)


@slow
@pytest.mark.parametrize("extra", ["dev", "docs", "torch", "jax"])
def test_extra_stands_in_the_metadata(wheel, extra):
    inside = [r.split(";")[0].strip() for r in metadata(wheel).get_all("Requires-Dist") if f'extra == "{extra}"' in r]
    assert inside == SETTINGS[f"{extra}_requirements"].split()


def test_one_version_everywhere():
    from transformer_nb import __version__

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert __version__ == VERSION and "version" in project["dynamic"]
    assert project["requires-python"] == f">={SETTINGS['min_python']}"
    assert re.search(rf"^version: {re.escape(VERSION)}$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.M)
    assert f"## [{VERSION}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_lock_names_public_files_only():
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    for package in lock["package"]:
        if package["source"] != {"editable": "."}:
            assert package["source"] == {"registry": "https://pypi.org/simple"}, package["name"]
            urls = [f["url"] for f in [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]]
            assert urls and all(u.startswith("https://files.pythonhosted.org/") for u in urls), package["name"]


def test_llms_txt_is_up_to_date():
    run(sys.executable, ".ci/llms.py", "--check", cwd=ROOT)
