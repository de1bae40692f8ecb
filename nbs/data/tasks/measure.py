"""The results of chapter 53: train each task of the ladder with its recipe, examine it, store what came out.

    python nbs/data/tasks/measure.py                    every task and variant, seed 0
    python nbs/data/tasks/measure.py sort dates         these
    python nbs/data/tasks/measure.py reverse --seeds 0 1 2

Writes one JSON file for each beside this script. Set OMP_NUM_THREADS=1: at these sizes more threads are slower.
The times in the files are seconds of one core in training (`time.process_time`), evaluations included.
"""
import argparse
from pathlib import Path

from transformer_nb.experiments.scores import measure, store_scores
from transformer_nb.learning import Task
from transformer_nb.learning.ladder import Pairs

HERE = Path(__file__).parent
VARIANTS = {"caesar-key-equal": ("caesar-key", dict(spread=0))}  # file: (task, what is changed)


def main():
    runs = {n: (n, {}) for n in Task.known if n != Pairs.name} | VARIANTS
    p = argparse.ArgumentParser(description="Train tasks with their recipes and store the results.")
    p.add_argument("names", nargs="*", default=list(runs), help=f"of {', '.join(runs)}; by default all")
    p.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = p.parse_args()
    if unknown := [n for n in args.names if n not in runs]:
        p.error(f"unknown: {', '.join(unknown)}")
    for name in args.names:
        task, changes = runs[name]
        for seed in args.seeds:
            run = measure(task, seed, **changes)
            store_scores(HERE / f"{name}.json", task, run, f"python nbs/data/tasks/measure.py {name} --seeds {' '.join(map(str, args.seeds))}")
            print(f"{name} seed {seed}: {run['exact_match']:.2%} of {run['held_out']:,}, {run['characters']:.2%} of characters, {run['parameters']:,} parameters, {run['core_seconds']:.0f} core seconds", flush=True)


if __name__ == "__main__":
    main()
