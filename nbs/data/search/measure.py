"""Half-trained models that write words backwards, asked with beams of several widths: `python nbs/data/search/measure.py 0 1 2` writes beams.csv beside this file.

Each number is a seed; the rows of other seeds that stand in the file already are kept. A seed takes about a minute."""
import csv
import os
import platform
import sys
from pathlib import Path

import numpy as np

from transformer_nb.experiments.search import generate, sequence_scores
from transformer_nb.learning.training import make_trainer

FILE = Path(__file__).with_name("beams.csv")
STEPS = (100, 200, 300, 400, 500)
BEAMS = (1, 2, 4, 8, 16)
PENALTIES = (0.0, 0.6)
SETTINGS = dict(d_model=64, dim_feedforward=256, lr=4e-3, warmup=50, steps=1000)  # those of chapter 50


def ask(model, pairs, beam_size, length_penalty):
    "One row of the table: how many answers are right, and whose fault it is if they are not."
    encode, pad = model.tokenizer.encode, model.tokenizer.pad
    best = [found[0] for found in generate(model, [s for s, _ in pairs], max_len=25, beam_size=beam_size, length_penalty=length_penalty)]
    right = sequence_scores(model, pad([encode(s) for s, _ in pairs]), pad([encode(t) for _, t in pairs]))
    score, wrong = np.array([h.score for h in best]), np.array([h.text != t for h, (_, t) in zip(best, pairs)])
    return dict(exact_match=1 - wrong.mean(), search_errors=(wrong & (right > score)).mean(), model_errors=(wrong & (right <= score)).mean(),
                log_probability=score.mean(), letters=np.mean([len(h.text) for h in best]), letters_right=np.mean([len(t) for _, t in pairs]))


def measure(seed, steps=STEPS, beams=BEAMS, penalties=PENALTIES, n=1000):
    "Rows for one seed: the default model on `reverse`, stopped now and then and asked for n held-out words."
    trainer, rows = make_trainer("reverse", seed, eval_every=100, eval_size=1, **SETTINGS), []
    pairs = trainer.task.sample(np.random.default_rng(seed), n, held_out=True)
    for step in steps:
        trainer.fit(until=step, progress=False)
        for beam_size in beams:
            for penalty in penalties:
                rows.append(dict(seed=seed, step=step, beam_size=beam_size, length_penalty=penalty, **ask(trainer.model, pairs, beam_size, penalty)))
                print(rows[-1], flush=True)
    return rows


def read():
    "The rows of the file, as numbers."
    lines = [line for line in FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")] if FILE.exists() else []
    return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(lines)]


def main(seeds):
    new = [row for seed in seeds for row in measure(seed)]
    rows = sorted([r for r in read() if r["seed"] not in seeds] + new, key=lambda r: (r["seed"], r["step"], r["beam_size"], r["length_penalty"]))
    with open(FILE, "w", encoding="utf-8", newline="\n") as f:
        f.write(f"# python nbs/data/search/measure.py {' '.join(str(int(s)) for s in sorted({r['seed'] for r in rows}))}\n")
        f.write(f"# {platform.machine()}, {os.environ.get('OMP_NUM_THREADS', 'all')} thread(s), Python {platform.python_version()}, NumPy {np.__version__}; 1,000 held-out words per row\n")
        table = csv.DictWriter(f, list(rows[0]), lineterminator="\n")
        table.writeheader()
        for r in rows: table.writerow({k: f"{v:.6g}" for k, v in r.items()})


if __name__ == "__main__": main([int(s) for s in sys.argv[1:]] or [0, 1, 2])
