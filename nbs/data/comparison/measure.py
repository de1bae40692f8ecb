"""How long each back end takes to learn to reverse words: python nbs/data/comparison/measure.py

Writes race.csv beside this file: seconds since the first step, evaluations included, and exact match on held-out strings, every 50 steps.
The other figures of chapter 66 are made by the command in bench.json."""
import time
from pathlib import Path

from transformer_nb.foundations.base import write_atomically
from transformer_nb.learning import make_trainer
from transformer_nb.speed.bench import as_csv
from transformer_nb.twin.training import fit

SETTINGS = dict(d_model=64, dim_feedforward=256, lr=4e-3, warmup=50, steps=1000, eval_every=50, eval_size=1000)


def race(backend, seed):
    "One training run."
    trainer, rows, start = make_trainer("reverse", seed, **SETTINGS), [], time.perf_counter()

    def note(history):
        rows.append(dict(backend=backend, seed=seed, step=history[-1]["step"], seconds=round(time.perf_counter() - start, 2), exact_match=history[-1]["exact_match"]))

    if backend == "numpy":
        trainer.fit(progress=False, callbacks=[lambda t: note(t.history)])
    else:
        fit(trainer.task, trainer.model.config, trainer.config, params=trainer.model.get_parameters(), tokenizer=trainer.model.tokenizer, progress=False, callbacks=[lambda params, history: note(history)])
    return rows


if __name__ == "__main__":
    rows = [row for seed in (0, 1) for backend in ("numpy", "jax") for row in race(backend, seed)]
    write_atomically(Path(__file__).with_name("race.csv"), as_csv(rows).encode())
