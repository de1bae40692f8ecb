"""The measurements of chapter 56: `python nbs/data/over_time/record.py film` trains once and writes recording.json here and the page
and the animation to nbs/viewer; `python nbs/data/over_time/record.py seeds` trains five times and writes seeds.csv.
Each training takes about half a minute."""
import csv
import platform
import sys
import time
from io import StringIO
from pathlib import Path

import numpy as np

from transformer_nb.experiments.attention_over_time import AttentionFilm, first_crossing, record_attention, save_recording
from transformer_nb.experiments.identity import attention_share
from transformer_nb.learning.training import make_trainer

HERE = Path(__file__).parent
WORD, EVERY, SEEDS = "transformer", 10, range(5)
SETTINGS = dict(d_model=64, dim_feedforward=256, lr=4e-3, warmup=50, steps=1000)  # those of chapter 50


def mirrored(t, n):
    "Where in a source of n letters letter t of the answer stands."
    return n - 1 - t


def train(seed, **changes):
    "The default model learns `reverse`, recorded: the recording, the mean share of the last layer over 20 held-out strings, seconds."
    trainer = make_trainer("reverse", seed, eval_every=EVERY, **SETTINGS | changes)
    strings = trainer.task.sample(np.random.default_rng(56), 20, held_out=True)
    recording, shares = record_attention(WORD, mirrored), []
    callbacks = [recording, lambda trainer: shares.append(attention_share(trainer.model, strings, mirrored)[-1].mean())]
    start = time.perf_counter()
    for callback in callbacks:
        callback(trainer)  # frame 0
    trainer.fit(progress=False, callbacks=callbacks)
    return recording, np.array(shares), time.perf_counter() - start


def film():
    recording, _, seconds = train(0)
    save_recording(recording, HERE / "recording.json", command="python nbs/data/over_time/record.py film", seed=0, seconds=round(seconds),
                   machine=f"{platform.machine()}, one core", python=platform.python_version(), numpy=np.__version__)
    for suffix in ("html", "gif"):
        AttentionFilm(recording).save(HERE.parents[1] / f"viewer/over_time.{suffix}")


def seeds():
    "For each seed the steps at which something reaches a level for the first time."
    table = StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["seed", "word_weight", "weight", "letters", "words", "words_predicted", "sharp_0", "sharp_1", "final_weight", "final_words", "seconds"])
    for seed in SEEDS:
        recording, shares, seconds = train(seed)
        steps, share, sharp = recording.column("step"), recording.column("share")[:, -1].mean(-1), recording.column("sharpness").max(-1)
        letters = recording.column("letters")
        independent = np.mean([letters**n for n in range(1, 17)], axis=0)
        levels = [(share, share[-1] / 2), (shares, shares[-1] / 2), (letters, 0.5), (recording.column("exact_match"), 0.5), (independent, 0.5), (sharp[:, 0], 0.5), (sharp[:, 1], 0.5)]
        writer.writerow([seed, *(round(first_crossing(steps, values, level)) for values, level in levels),
                         round(shares[-1], 3), recording.column("exact_match")[-1], round(seconds)])
    about = f"# python nbs/data/over_time/record.py seeds; {platform.machine()}, one core; Python {platform.python_version()}, NumPy {np.__version__}\n"
    (HERE / "seeds.csv").write_text(about + table.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    {"film": film, "seeds": seeds}[sys.argv[1]]()
