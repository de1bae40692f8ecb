"Promises about the package as a whole: what it imports, in which order its parts stand, and whose random numbers it draws."
import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PACKAGE = Path(__file__).parents[1] / "transformer_nb"
PARTS = ["foundations", "layers", "attention", "model", "learning", "experiments", "twin", "proof", "speed"]
OUTSIDE = ["matplotlib", "threadpoolctl", "tqdm", "safetensors", "torch", "jax", "pandas", "scipy", "fastcore", "nbdev", "IPython"]


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = list(path.relative_to(PACKAGE.parent).parts[:-1])
            base = package[: len(package) - node.level + 1] if node.level else []
            yield ".".join(base + ([node.module] if node.module else []))


@pytest.mark.parametrize("part", PARTS)
def test_a_part_imports_only_from_itself_and_the_parts_before(part):
    allowed = PARTS[: PARTS.index(part) + 1]
    files = list((PACKAGE / part).glob("*.py"))
    assert files
    for path in files:
        ours = [m.split(".")[1] for m in imported_modules(path) if m.startswith("transformer_nb.")]
        assert set(ours) <= set(allowed), f"{path.name} imports from {sorted(set(ours) - set(allowed))}"


def test_model_training_and_decoding_need_numpy_only():
    code = f"""
import sys
for name in {OUTSIDE}: sys.modules[name] = None  # importing any of them fails
import transformer_nb.foundations, transformer_nb.layers, transformer_nb.attention, transformer_nb.model, transformer_nb.learning, transformer_nb.experiments, transformer_nb.proof, transformer_nb.speed
from transformer_nb.learning import make_trainer, predict
trainer = make_trainer("reverse", steps=2, eval_every=2, eval_size=2, d_model=8, nhead=2, dim_feedforward=8)
trainer.fit(progress=False)
print(predict(trainer.model, ["apple"], 3))
third = {{m.split(".")[0] for m in sys.modules if getattr(sys.modules[m], "__file__", None) and "site-packages" in sys.modules[m].__file__}} - {{"numpy", "transformer_nb"}}
third = {{m for m in third if not m.startswith(("_", "sitecustomize"))}}
assert not third, third
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_global_random_state_is_neither_read_nor_written():
    from transformer_nb.learning import make_trainer, predict

    def run():
        trainer = make_trainer("identity", steps=2, eval_every=2, eval_size=2, d_model=8, nhead=2, dim_feedforward=8, dropout=0.1)
        trainer.fit(progress=False)
        predict(trainer.model, ["apple"], 3)
        return trainer.model.get_parameters()

    np.random.seed(1)
    before = np.random.get_state()
    first = run()
    after = np.random.get_state()
    assert all(np.array_equal(a, b) for a, b in zip(before, after))
    np.random.seed(2)
    second = run()
    assert all(np.array_equal(first[n], second[n]) for n in first)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_call_of_numpys_global_generator(path):
    made = {"default_rng", "Generator", "SeedSequence", "PCG64", "SFC64", "BitGenerator"}
    used = {n.attr for n in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Attribute) and n.value.attr == "random" and getattr(n.value.value, "id", "") == "np"}
    assert used <= made, used - made


def test_every_part_exports_the_public_names_of_its_modules():
    import importlib.util

    for part in PARTS:
        if part == "twin" and importlib.util.find_spec("jax") is None:
            continue
        package = importlib.import_module(f"transformer_nb.{part}")
        for path in (PACKAGE / part).glob("*.py"):
            if path.stem != "__init__":
                for name in importlib.import_module(f"transformer_nb.{part}.{path.stem}").__all__:
                    assert name in package.__all__ and hasattr(package, name), f"{part} lacks {name}"
