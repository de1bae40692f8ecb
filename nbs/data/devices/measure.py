"""What an accelerator changes, on whatever device JAX finds: does the twin still agree with NumPy, how long does `reverse` take, how long is a step?

    python nbs/data/devices/measure.py nbs/data/devices/gpu.json

The row of NumPy in each table is measured on the same machine, with one thread and with all of them, one after the other and not interleaved.
"""
import argparse
import json
import os
import subprocess
import time
from dataclasses import replace

import jax
import numpy as np
from threadpoolctl import threadpool_limits

from transformer_nb.foundations.base import make_rng, write_atomically
from transformer_nb.learning import exact_match, make_trainer
from transformer_nb.learning.tasks import Reverse, make_batch
from transformer_nb.model.transformer import Transformer
from transformer_nb.speed.bench import ROWS, SHAPES, Case, about_machine
from transformer_nb.twin.agreement import twin_errors
from transformer_nb.twin.training import TwinTrainer

SIZES = [("tiny", 64), ("small", 64), ("base", 64), ("paper", 16), ("paper", 128), ("paper", 1024)]  # preset, sentences in a batch
LARGEST_OF_NUMPY = 128  # sentences of the preset paper: more would take minutes


def agreement():
    "The largest relative error of logits, loss and gradients, in float64 and, with and without shortened products, in float32."
    errors = {}
    for dtype, precision in (("float64", "highest"), ("float32", "highest"), ("float32", "default")):
        model = Transformer(replace(Case("small").config, dtype=dtype), Reverse().tokenizer(), seed=0)
        batch = make_batch(Reverse(1, 12).sample(make_rng(1), 16), model.tokenizer)
        with jax.default_matmul_precision(precision):
            found = twin_errors(model, batch, label_smoothing=0.1)
        found = {name: e for name, e in found.items() if not name.endswith(".bk")}  # a key bias has gradient 0 but for rounding
        errors[f"{dtype}, {precision}"] = {"logits": found.pop("logits"), "loss": found.pop("loss"), "worst gradient": max(found.values())}
    return errors


def training():
    "Seconds for the recipe of `reverse`, evaluations and compilation included, and the exact match on 10,000 held-out strings."
    rows = {}
    for name in ("jax", "jax again", "numpy"):
        made = make_trainer("reverse", seed=0)
        exam = made.task.exam(make_rng(0), 10_000)
        trainer = made if name == "numpy" else TwinTrainer(made.model, made.task, made.config)
        start = time.perf_counter()
        trainer.fit(progress=False)
        rows[name] = {"seconds": time.perf_counter() - start, "exact_match": exact_match(trainer.model, exam)}
        print(name, rows[name], flush=True)
    return rows


def milliseconds(step, seconds=2.0):
    "(first call, median of the further calls: at least three, for about so many seconds), in ms."
    times = []
    while len(times) < 4 or (sum(times[1:]) < 1e3 * seconds and len(times) < 200):
        start = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - start))
    return times[0], float(np.median(times[1:]))


def steps(sizes):
    "Time of a training step by preset and batch: JAX on its device, NumPy on the processor."
    rows = []
    for preset, sentences in sizes:
        SHAPES[preset] = (sentences, SHAPES[preset][1])
        case = Case(preset)
        row = dict(preset=preset, batch=sentences, length=SHAPES[preset][1])
        row["jax_first"], row["jax"] = milliseconds(ROWS["jax"].make(case)[0])
        for name, threads in (("numpy_1", 1), (f"numpy_{os.cpu_count()}", os.cpu_count())):
            if preset == "paper" and sentences > (16 if threads == 1 else LARGEST_OF_NUMPY):
                continue
            with threadpool_limits(threads, "blas"):
                row[name] = milliseconds(ROWS["ours"].make(case)[0])[1]
        rows.append(row)
        print(row, flush=True)
    return rows


def device():
    "The device, its driver and its memory."
    first = jax.devices()[0]
    about = {"platform": first.platform, "kind": first.device_kind, "count": len(jax.devices())}
    if first.platform == "gpu":
        about["driver"] = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True).stdout.strip()
        about["peak_memory_mb"] = round(first.memory_stats()["peak_bytes_in_use"] / 2**20)
    return about


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("file", help="where to write")
    p.add_argument("--sizes", type=int, default=len(SIZES), help="only so many of the sizes, smallest first")
    args = p.parse_args()
    result = {"command": "python nbs/data/devices/measure.py nbs/data/devices/gpu.json", "date": time.strftime("%Y-%m-%d")}
    result |= {"agreement": agreement(), "training": training(), "steps": steps(SIZES[:args.sizes]), "device": device(), "machine": about_machine()}
    rounded = json.loads(json.dumps(result), parse_float=lambda x: float(f"{float(x):.4g}"))
    write_atomically(args.file, (json.dumps(rounded, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
