"""Trains on strings of at most ten letters and tests on up to twenty: python nbs/data/length/measure.py

Writes length.csv beside this file, one row per run and length; rows that are there already are kept. About half a minute per run on one quiet core."""
import csv
import io
import platform
from importlib.metadata import version
from pathlib import Path

from transformer_nb.foundations.base import make_rng, write_atomically
from transformer_nb.learning import exact_match, get_task, make_trainer

FILE = Path(__file__).with_name("length.csv")
TRAINED, TESTED, STRINGS, SHIFTS = 10, 20, 500, 24
SETTINGS = dict(d_model=64, dim_feedforward=256, lr=4e-3, warmup=50, steps=3000, batch_size=32, eval_every=3000)
NUMBERINGS = {
    "from the start": {},
    "from the start, shifted": dict(position_shifts=SHIFTS),
    "from the end": dict(positions_from_end=True),
    "from the end, shifted": dict(positions_from_end=True, position_shifts=SHIFTS),
}
RUNS = [("reverse", numbering, seed) for seed in range(2) for numbering in NUMBERINGS]


def measure(task, numbering, seed):
    "Exact match by length of one training run."
    trainer = make_trainer(task, seed, max_len=TRAINED, **SETTINGS, **NUMBERINGS[numbering])
    trainer.fit(progress=False)
    for n in range(1, TESTED + 1):
        pairs = get_task(task, min_len=n, max_len=n).sample(make_rng(n), STRINGS, held_out=True)
        yield dict(task=task, numbering=numbering, seed=seed, length=n, exact_match=exact_match(trainer.model, pairs))


def main():
    rows = list(csv.DictReader(FILE.open(encoding="utf-8"))) if FILE.exists() else []
    for run in RUNS:
        if any((r["task"], r["numbering"], int(r["seed"])) == run for r in rows):
            continue
        about = dict(numpy=version("numpy"), machine=platform.machine())
        rows += [row | about for row in measure(*run)]
        text = io.StringIO()
        table = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        write_atomically(FILE, text.getvalue().encode())
        print(*run, [f"{float(r['exact_match']):.0%}" for r in rows[-TESTED:]], flush=True)


if __name__ == "__main__":
    main()
