"The stored curves of chapter 54: complete, and once more by training, which takes minutes."
import csv
import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "nbs" / "data" / "length"


def script():
    spec = importlib.util.spec_from_file_location("measure_length", FOLDER / "measure.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stored():
    "Exact match for each length, by (task, numbering, seed)."
    curves = {}
    for row in csv.DictReader((FOLDER / "length.csv").read_text(encoding="utf-8").splitlines()):
        curves.setdefault((row["task"], row["numbering"], int(row["seed"])), {})[int(row["length"])] = float(row["exact_match"])
    return curves


def test_stored_curves_are_complete():
    measure, curves = script(), stored()
    assert list(curves) == measure.RUNS
    for curve in curves.values():
        assert list(curve) == list(range(1, measure.TESTED + 1))
        assert all(0 <= share <= 1 and (share * measure.STRINGS).is_integer() for share in curve.values())


@pytest.mark.slow
@pytest.mark.parametrize("numbering", ["from the start", "from the end, shifted"])
def test_stored_curves_come_out_again(numbering):
    "Trained and measured anew. The same processor and NumPy give the same figures; others round differently, and what lies beyond the lengths that were trained on is sensitive to that."
    measure = script()
    run = {row["length"]: row["exact_match"] for row in measure.measure("reverse", numbering, 0)}
    old = stored()["reverse", numbering, 0]
    print(numbering, "the same figures" if run == old else f"{run}, stored {old}")
    inside, beyond = range(1, measure.TRAINED + 1), range(measure.TRAINED + 1, measure.TESTED + 1)
    assert list(run) == list(old)
    assert all(abs(run[n] - old[n]) < 0.01 for n in inside)
    if numbering == "from the start":
        assert max(run[n] for n in beyond) < 0.05
    else:
        assert min(run[n] for n in range(11, 15)) > 0.8 and abs(sum(run[n] - old[n] for n in beyond)) / len(beyond) < 0.15
