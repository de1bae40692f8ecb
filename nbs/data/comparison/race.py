"""How long each back end takes to learn to reverse words: python nbs/data/comparison/race.py

Writes race.csv beside this file: seconds since the first step, evaluations included, and exact match on held-out strings, every 50 steps.
The other figures of chapter 66 are made by nbs/data/bench/record.sh."""
import time
from pathlib import Path

from transformer_nb.foundations.base import write_atomically
from transformer_nb.learning import make_trainer
from transformer_nb.speed.bench import as_csv
from transformer_nb.twin.training import TwinTrainer

SETTINGS = dict(d_model=64, dim_feedforward=256, lr=4e-3, warmup=50, steps=1000, eval_every=50, eval_size=1000)


def race(backend, seed):
    "One training run."
    made, rows = make_trainer("reverse", seed, **SETTINGS), []
    trainer = TwinTrainer(made.model, made.task, made.config) if backend == "jax" else made
    start = time.perf_counter()

    def note(trainer):
        last = trainer.history[-1]
        rows.append(dict(backend=backend, seed=seed, step=last["step"], seconds=round(time.perf_counter() - start, 2), exact_match=last["exact_match"]))

    trainer.fit(progress=False, callbacks=[note])
    return rows


if __name__ == "__main__":
    rows = [row for seed in (0, 1) for backend in ("numpy", "jax") for row in race(backend, seed)]
    write_atomically(Path(__file__).with_name("race.csv"), as_csv(rows).encode())
