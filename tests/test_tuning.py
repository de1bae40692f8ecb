"Tuning: spaces, plans and draws by hand; a study gives the same table however it is run, and an honest winner."
import argparse
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from transformer_nb.cli import main
from transformer_nb.experiment_commands import add_tune
from transformer_nb.experiments import tuning
from transformer_nb.experiments.tuning import (
    Choice, Span, Study, finals, grid_trials, halving_plan, importance, order_of_trials, parse_space, plan_cost, plot_study, random_trials, ranked, read_study, run_trial, tune,
    write_outcome,
)
from transformer_nb.learning import Trainer, make_trainer

FIXED = "max_len=3,d_model=12,dim_feedforward=16,num_encoder_layers=1,num_decoder_layers=1,eval_size=10,batch_size=4"
SPACE = f"lr=1e-3..1e-1:log, warmup=1..20, nhead=1|2|3, norm_first=true|false, {FIXED}"
FILES = ["recipe.json", "results.csv", "study.json", "tuning.png"]


def study(**changes):
    return Study("reverse", **dict(space=SPACE, method="halving", trials=8, budget=12, eta=2, finalists=2, repeats=2) | changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "A study that nothing interrupted, in this process."
    out = tmp_path_factory.mktemp("whole")
    return tune(study(), out, workers=0), out


def same_files(a, b):
    for name in FILES:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    assert sorted(p.name for p in a.iterdir()) == FILES


# Spaces

def test_space_is_read_as_written():
    space = parse_space("lr=1e-4..3e-2:log, warmup=10..200\n nhead = 1|2|4 # heads\n\nnorm_first=true|false,schedule=constant|warmup_cosine,max_len=8")
    assert space == dict(lr=Span(1e-4, 3e-2, True), warmup=Span(10, 200, whole=True), nhead=Choice((1, 2, 4)), norm_first=Choice((True, False)),
                         schedule=Choice(("constant", "warmup_cosine")), max_len=Choice((8,)))
    assert parse_space(",".join(f"{n}={d}" for n, d in space.items())) == space  # and written as read


@pytest.mark.parametrize("text, parts", [
    ("heads=1|2", ["unknown setting 'heads'", "nhead", "norm_first"]),
    ("lr=3e-2..1e-4:log", ["0.03..0.0001:log is empty"]),
    ("lr=0..1:log", ["numbers above 0"]),
    ("lr=nan..1", ["is empty"]),
    ("lr=0.1..inf", ["is empty"]),
    ("lr=a..b", ["lr: 'a' is not a number"]),
    ("lr=1e-3..", ["lr: '' is not a number"]),
    ("lr=-1..1", ["lr=-1.0", "at least 0"]),
    ("lr=1e-3|0.1:log", ["only for a range"]),
    ("lr=1e-3..1e-1:linear", ["only log is known"]),
    ("warmup=0.5..2", ["warmup: '0.5' is not an integer"]),
    ("nhead=1|2|2", ["none twice"]),
    ("nhead=1||2", ["'' is not an integer"]),
    ("nhead=two|4", ["'two' is not an integer"]),
    ("norm_first=0..1", ["is a range", "list the values"]),
    ("norm_first=yes|no", ["'yes' is not true or false"]),
    ("activation=a..b", ["is a range"]),
    ("activation=relu|tanh", ["'tanh'"]),
    ("dropout=0..1", ["dropout=1"]),
    ("betas=0.9|0.99", ["unknown setting 'betas'"]),
    ("steps=10..20", ["the study itself decides"]),
    ("seed=1|2", ["the study itself decides"]),
    ("eval_size=4|8,lr=1..2", ["not searched"]),
    ("lr", ["not of the form name=values"]),
    ("lr=1..2,lr=1..3", ["stands there twice"]),
    ("", ["nothing to search"]),
    ("lr=0.1,nhead=2", ["nothing to search"]),
    ("lr=1..2\nwarmup=5..1\n", ["line 2", "5..1 is empty"]),
])
def test_wrong_spaces(text, parts):
    with pytest.raises(ValueError) as e:
        parse_space(text, "reverse", "my.txt")
    assert all(p in str(e.value) for p in ["my.txt", *parts]), e.value


@pytest.mark.parametrize("make, error", [
    (lambda: Span(2, 1), ValueError), (lambda: Span("1", 2), TypeError), (lambda: Span(1, 2.5, whole=True), TypeError), (lambda: Span(True, 2), TypeError),
    (lambda: Choice([1, 2]), TypeError), (lambda: Choice(()), ValueError), (lambda: parse_space(None), TypeError),
])
def test_wrong_dimensions(make, error):
    with pytest.raises(error):
        make()


def test_spans_by_hand():
    assert Span(1e-4, 1e-2, log=True).at(0.5) == 1e-3 and Span(0.0, 0.3).at(0.5) == 0.15
    assert [Span(1, 4, whole=True).at(u) for u in (0, 0.24, 0.26, 0.6, 0.9, 1)] == [1, 1, 2, 3, 4, 4]
    for d in (Span(1e-4, 3e-2, log=True), Span(-2.0, 5.0), Span(1, 7, whole=True), Span(1, 100, log=True, whole=True), Choice(("a", "b", "c"))):
        for u in np.linspace(0.01, 0.99, 50):
            assert d.at(d.where(d.at(u))) == d.at(u)
            assert abs(d.where(d.at(u)) - u) < (0.5 if len(d) < 200 else 1e-3)
    counts = np.bincount([Span(1, 5, whole=True).at(u) for u in np.random.default_rng(0).random(20_000)])[1:]
    assert abs(counts / 4000 - 1).max() < 0.05  # integers at the ends are as likely as the others


# Draws

def test_random_trials():
    space = parse_space(SPACE)
    trials = random_trials(space, 40, seed=3)
    assert trials == random_trials(space, 40, seed=3) and trials[:7] == random_trials(space, 7, seed=3) != random_trials(space, 7, seed=4)
    assert all(list(t) == list(space) for t in trials) and all(1e-3 <= t["lr"] <= 1e-1 and t["max_len"] == 3 for t in trials)
    below = np.mean([t["lr"] < 1e-2 for t in random_trials(space, 400)])
    assert 0.4 < below < 0.6  # the middle of the logarithmic scale
    assert {type(v) for t in trials for v in t.values()} == {int, float, bool}


def test_settings_that_do_not_go_together_are_not_drawn():
    space = parse_space("d_model=8|12,nhead=2|3|4")
    good = [dict(d_model=8, nhead=2), dict(d_model=8, nhead=4), dict(d_model=12, nhead=2), dict(d_model=12, nhead=3), dict(d_model=12, nhead=4)]
    key = lambda t: (t["d_model"], t["nhead"])
    assert sorted(random_trials(space, 5), key=key) == good == grid_trials(space, 6)  # each once
    with pytest.raises(ValueError, match="only 5 different ones .*does not split"):
        random_trials(space, 6)


def test_grids_by_hand():
    assert [t["lr"] for t in grid_trials(parse_space("lr=1e-4..1:log"), 2)] == [1e-3, 1e-1]  # the middles of two cells
    assert grid_trials(parse_space("lr=0.0..0.8,warmup=1..2,norm_first=true|false"), 8) == [
        dict(lr=lr, warmup=w, norm_first=n) for lr in (0.2, 0.6) for w in (1, 2) for n in (True, False)]
    assert len(grid_trials(parse_space("lr=0.0..0.8,warmup=1..2,norm_first=true|false"), 11)) == 8 and len(grid_trials(parse_space("lr=0.0..0.8,warmup=1..2"), 100)) == 100
    assert len(grid_trials(parse_space("warmup=1..3"), 100)) == 3
    with pytest.raises(ValueError, match="have 6 combinations; n=5"):
        grid_trials(parse_space("nhead=1|2|4,norm_first=true|false,lr=1e-3..1:log"), 5)


# Plans

@pytest.mark.parametrize("arguments, plan, cost", [
    ((27, 270, 3, 3), [(27, 30), (9, 90), (3, 270)], 27 * 30 + 9 * 60 + 3 * 180),
    ((16, 240, 2, 3), [(16, 60), (8, 120), (4, 240)], 16 * 60 + 8 * 60 + 4 * 120),
    ((81, 81, 3, 5), [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)], 81 + 27 * 2 + 9 * 6 + 3 * 18 + 54),
    ((10, 100, 3, 3), [(10, 12), (3, 34), (1, 100)], 10 * 12 + 3 * 22 + 66),
    ((5, 40, 3, 1), [(5, 40)], 200),
    ((16, 240, 2, 3, False), [(16, 60), (16, 120), (16, 240)], 16 * 240),
])
def test_plans_by_hand(arguments, plan, cost):
    assert halving_plan(*arguments) == plan and plan_cost(plan) == cost


@pytest.mark.parametrize("arguments, part", [((8, 100, 3, 3), "at least 9 are needed"), ((27, 3, 3, 3), r"at the steps \[1, 1, 3\]"), ((9, 100, 1, 2), "eta=1"), ((0, 100), "trials=0")])
def test_wrong_plans(arguments, part):
    with pytest.raises(ValueError, match=part):
        halving_plan(*arguments)


@pytest.mark.parametrize("changes, error, part", [
    (dict(method="bayes"), ValueError, "random, grid, halving"), (dict(metric="bleu"), ValueError, "loss, exact_match"), (dict(backend="torch"), ValueError, "numpy"),
    (dict(trials=2.5), TypeError, "trials"), (dict(trials=0), ValueError, "trials=0"), (dict(finalists=0), ValueError, "finalists=0"), (dict(repeats=-1), ValueError, "repeats"),
    (dict(seed=-1), ValueError, "seed=-1"), (dict(seed="a"), ValueError, "seed='a'"), (dict(budget=2), ValueError, "budget=2"), (dict(space="lr=2..1"), ValueError, "empty"),
    (dict(space="lr=0.1..0.2,min_len=5,max_len=4"), ValueError, "min_len=5 is larger"), (dict(space="lr=0.1..0.2,max_len=4..8"), TypeError, "max_len='4..8'"), (dict(trials=100, space="nhead=1|2"), ValueError, "only 2 different"),
])
def test_wrong_studies(changes, error, part):
    with pytest.raises(error, match=part):
        study(**changes)


def test_unknown_task():
    with pytest.raises(ValueError, match="unknown task 'sing'"):
        Study("sing", SPACE)


# Runs

def test_a_study_writes_what_it_says(whole):
    rows, out = whole
    assert [(r["stage"], r["steps"]) for r in rows] == [("1", 3)] * 8 + [("2", 6)] * 4 + [("3", 12)] * 2 + [("final", 12)] * 4
    assert {r["seed"] for r in rows if r["stage"] != "final"} == {0} and [r["seed"] for r in rows if r["stage"] == "final"] == [1, 2, 1, 2]
    assert sorted(p.name for p in out.iterdir()) == FILES and (out / "tuning.png").read_bytes().startswith(b"\x89PNG")
    assert read_study(out) == (study(), rows)
    for stage, n in (("1", 4), ("2", 2)):  # the best went on
        best = ranked([r for r in rows if r["stage"] == stage])[:n]
        assert sorted(best) == [r["trial"] for r in rows if r["stage"] == str(int(stage) + 1)]


def test_workers_change_nothing(whole, tmp_path):
    before = dict(os.environ)
    for workers in (1, 2):
        assert tune(study(), tmp_path / str(workers), workers) == whole[0]
        same_files(tmp_path / str(workers), whole[1])
    assert dict(os.environ) == before


@pytest.mark.parametrize("done", [1, 8, 9, 13, 14, 17])
def test_resumed_equals_uninterrupted(whole, tmp_path, done):
    lines = []

    def report(line):
        lines.append(line)
        if len(lines) == done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(study(), tmp_path, 0, report=report)
    assert len(read_study(tmp_path)[1]) == done
    (tmp_path / ".results.csv.123.tmp").write_text("half a tab")  # killed while it wrote
    lines.clear()
    rest = []
    tune(study(), tmp_path, 0, resume=True, report=rest.append)
    assert len(rest) == len(whole[0]) - done  # nothing twice
    same_files(tmp_path, whole[1])
    assert tune(study(), tmp_path, 0, resume=True) == whole[0]  # once more: nothing to do


SCRIPT = """
    import sys
    from pathlib import Path
    from transformer_nb.experiments.tuning import *
    if __name__ == "__main__":
        study, _ = read_study(sys.argv[1])
        try: tune(study, sys.argv[1], 2, resume=True, report=lambda line: print(line, flush=True))
        except KeyboardInterrupt: sys.exit(130)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on(whole, tmp_path, how):
    (tmp_path / "run.py").write_text(textwrap.dedent(SCRIPT))
    out = tmp_path / "out"
    out.mkdir()
    (out / "study.json").write_bytes((whole[1] / "study.json").read_bytes())
    with subprocess.Popen([sys.executable, tmp_path / "run.py", out], stdout=subprocess.PIPE, text=True, start_new_session=True) as run:
        for _ in range(3):
            assert run.stdout.readline().startswith("rung 1")
        if how == signal.SIGKILL:
            run.kill()  # the program alone: its workers have to notice
        else:
            os.killpg(run.pid, how)  # as a terminal does
        assert run.wait(60) == (-9 if how == signal.SIGKILL else 130)
        with pytest.raises(ProcessLookupError):
            for _ in range(200):  # until nobody is left of the group
                os.killpg(run.pid, 0)
                time.sleep(0.05)
            os.killpg(run.pid, signal.SIGKILL)
    assert 3 <= len(read_study(out)[1]) < len(whole[0])
    tune(study(), out, 0, resume=True)
    same_files(out, whole[1])


def test_halving_goes_on_instead_of_starting_anew(whole, tmp_path, monkeypatch):
    steps = []
    train_step = Trainer.train_step
    monkeypatch.setattr(Trainer, "train_step", lambda self, batch: steps.append(self.step) or train_step(self, batch))
    assert tune(study(), tmp_path, 0) == whole[0]
    assert len(steps) == plan_cost(study().plan()) + 2 * 2 * 12 == 8 * 3 + 4 * 3 + 2 * 6 + 48


def test_a_cut_trial_is_the_beginning_of_a_whole_one(whole, tmp_path):
    looks = tune(study(method="random", rungs=3), tmp_path, 0)  # the same draws, none dropped
    assert [(r["stage"], r["steps"]) for r in looks if r["stage"] != "final"] == [(s, n) for s, n in (("1", 3), ("2", 6), ("3", 12)) for _ in range(8)]
    assert all(r in looks for r in whole[0] if r["stage"] != "final")
    once = tune(study(method="random"), tmp_path / "once", 0)
    assert [r["loss"] for r in once if r["stage"] == "1"] == [r["loss"] for r in looks if r["stage"] == "3"]  # looking changes nothing


def test_a_failing_trial_stops_nothing(tmp_path):
    diverges = study(space=f"lr=1e-3|1e30,optimizer=sgd,nhead=1|2|3,{FIXED}", trials=6, method="random", repeats=0, rungs=2)
    rows = tune(diverges, tmp_path, 0)
    trials = diverges.draw()
    failed = [r for r in rows if r["failure"]]
    assert {r["trial"] for r in failed} == {i for i, t in enumerate(trials) if t["lr"] == 1e30} and len(failed) == 3
    assert all(r["failure"].startswith("FloatingPointError") and r["loss"] is None for r in failed)
    assert len([r for r in rows if r["stage"] == "2"]) == 3 and not any(r["failure"] for r in rows if r["stage"] == "2")
    assert order_of_trials(rows)[-3:] == sorted(r["trial"] for r in failed)
    assert json.loads((tmp_path / "recipe.json").read_text())["settings"]["lr"] == 1e-3
    assert read_study(tmp_path)[1] == rows


def test_if_every_trial_fails_it_says_so(tmp_path):
    with pytest.raises(FloatingPointError, match="every trial failed; trial 0 with: FloatingPointError"):
        tune(study(space=f"lr=1e30|1e31,optimizer=sgd,nhead=1|2|3,{FIXED}", trials=6, method="random"), tmp_path, 0)
    assert not (tmp_path / "recipe.json").exists()


def test_a_full_disk_stops_the_study_and_not_the_trial(tmp_path, monkeypatch):
    def full(self, path):
        raise OSError(28, "No space left on device", str(path))
    monkeypatch.setattr(Trainer, "save", full)
    with pytest.raises(OSError, match="No space left"):
        tune(study(), tmp_path, 0)


def die(*job):
    os._exit(1)


def test_a_worker_that_dies_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "run_trial", die)
    with pytest.raises(ChildProcessError, match="ended unexpectedly"):
        tune(study(), tmp_path, 1)


def test_winner_is_chosen_by_fresh_seeds(whole):
    rows, out = whole
    table = finals(rows)
    by_hand = {t: np.mean([r["loss"] for r in rows if r["stage"] == "final" and r["trial"] == t]) for t in {r["trial"] for r in rows if r["stage"] == "final"}}
    assert [r["trial"] for r in table] == sorted(by_hand, key=by_hand.get) and table[0]["loss"] == min(by_hand.values())
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["task"] == "reverse" and recipe["settings"] == study().draw()[table[0]["trial"]] | dict(steps=12)
    assert make_trainer(recipe["task"], **recipe["settings"]).config.steps == 12


def row(stage, trial, seed, loss, exact=0.5):
    return dict(stage=stage, trial=trial, seed=seed, steps=12, loss=loss, exact_match=exact, failure=None if loss else "FloatingPointError: x")


def test_luck_with_the_first_seed_does_not_win(tmp_path):
    random = study(method="random", trials=2)
    rows = [row("1", 0, 0, 1.0), row("1", 1, 0, 2.0)]
    assert write_outcome(random, rows, tmp_path)["lr"] == random.draw()[0]["lr"]
    rows += [row("final", 0, 1, 1.9), row("final", 0, 2, 1.9), row("final", 1, 1, 1.8), row("final", 1, 2, 1.8)]
    assert write_outcome(random, rows, tmp_path)["lr"] == random.draw()[1]["lr"]
    rows[-1] = row("final", 1, 2, None)
    assert write_outcome(random, rows, tmp_path)["lr"] == random.draw()[0]["lr"]


def test_finals_and_orders_by_hand():
    rows = [row("1", 0, 0, 2.0), row("1", 1, 0, 1.0), row("1", 2, 0, None), row("1", 3, 0, 3.0, 0.9), row("2", 0, 0, 1.5), row("2", 1, 0, 1.75),
            row("final", 0, 1, 1.0), row("final", 0, 2, 2.0), row("final", 1, 1, 1.5, 0.75), row("final", 1, 2, 1.25, 0.25), row("final", 3, 1, 0.5), row("final", 3, 2, None)]
    assert ranked(rows[:4]) == [1, 0, 3, 2] and ranked(rows[:4], "exact_match") == [3, 0, 1, 2]
    assert order_of_trials(rows) == [0, 1, 3, 2]  # further first, then better, failed last
    assert [(r["trial"], r["loss"], r["spread"], r["failures"]) for r in finals(rows)] == [(1, 1.375, 0.25, 0), (0, 1.5, 1.0, 0), (3, 0.5, 0.0, 1)]


# Folders

def test_a_folder_with_another_study_is_left_alone(whole, tmp_path):
    out = tmp_path / "out"
    tune(study(method="random", repeats=0, trials=3), out, 0)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    for resume in (False, True):
        with pytest.raises(ValueError, match=r"holds another study: trials=3 there, 4 here"):
            tune(study(method="random", repeats=0, trials=4), out, 0, resume)
    with pytest.raises(ValueError, match="this study already, with 3 results"):
        tune(study(method="random", repeats=0, trials=3), out, 0)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


@pytest.mark.parametrize("name, change, part", [
    ("study.json", lambda s: s[:50], "study.json is damaged"), ("study.json", lambda s: s.replace('"trials": 8', '"trials": 0'), "trials=0"), ("study.json", lambda s: "[]", "damaged"),
    ("study.json", lambda s: s.replace('"eta"', '"etta"'), "damaged"), ("results.csv", lambda s: "", "line 1"), ("results.csv", lambda s: s.replace("warmup", "warm"), "line 1"),
    ("results.csv", lambda s: s[: s.index("\n1,3,") + 5], "line 5"), ("results.csv", lambda s: s.replace("\n1,3,", "\n1,33,"), "line 5"),
    ("results.csv", lambda s: s.replace("\n1,3,", "\n1,2,"), "the settings are not those of trial 2"), ("results.csv", lambda s: s + s.splitlines()[-1], "line 20.*twice"),
    ("results.csv", lambda s: s.replace("\n1,3,", "\nx,3,"), "line 5"), ("results.csv", lambda s: s.replace("\n1,3,", "\n1,-5,"), "line 5"),
])
def test_damaged_folders(whole, tmp_path, name, change, part):
    for file in ("study.json", "results.csv"):
        text = (whole[1] / file).read_text()
        (tmp_path / file).write_text(change(text) if file == name else text)
    with pytest.raises(ValueError, match=part):
        tune(study(), tmp_path, 0, resume=True)


def test_nothing_to_resume(tmp_path):
    with pytest.raises(FileNotFoundError, match="no study in"):
        tune(study(), tmp_path / "none", 0, resume=True)
    assert not (tmp_path / "none").exists()
    for workers, error in ((-1, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="workers="):
            tune(study(), tmp_path / "none", workers)


# Importance

def test_importance_on_functions_with_known_answers():
    space = parse_space("lr=0.0..1.0,dropout=0.0..0.9,warmup=0..100,norm_first=true|false,nhead=1|2|4,max_len=8")
    trials = random_trials(space, 3000, seed=1)
    x, y = (np.array([space[n].where(t[n]) for t in trials]) for n in ("lr", "dropout"))
    post = np.array([not t["norm_first"] for t in trials])
    others = lambda shares, *names: max(v for n, v in shares.items() if n not in names)
    line = importance(space, trials, x)
    assert abs(line["lr"] - 8 / 9) < 0.01 and others(line, "lr") < 0.01 and "max_len" not in line  # thirds of a line leave a ninth of its variance
    valley = importance(space, trials, (x - 0.5) ** 2)
    assert abs(valley["lr"] - 2 / 3) < 0.02 and others(valley, "lr") < 0.01  # not only what rises or falls
    step = importance(space, trials, post + 1e-3 * y)
    assert abs(step["norm_first"] - 3 / 4) < 0.02  # ranks of two halves
    equal = importance(space, trials, x + y)
    assert abs(equal["lr"] - equal["dropout"]) < 0.05 and 0.3 < equal["lr"] < 0.5
    crossed = importance(space, trials, post ^ (x > 0.5))  # together they decide, each alone tells nothing
    assert max(crossed.values()) < 0.01


def test_importance_of_noise_is_nothing_even_in_small_studies():
    space, rng = parse_space("lr=0.0..1.0,nhead=1|2|4"), np.random.default_rng(0)
    shares = [importance(space, random_trials(space, 12, s), rng.random(12))["lr"] for s in range(200)]
    assert np.median(shares) < 0.05 and np.mean(shares) < 0.12  # without the correction 0.18


def test_importance_of_nonsense():
    space = parse_space("lr=0.0..1.0")
    with pytest.raises(ValueError, match="3 trials and 2 scores"):
        importance(space, random_trials(space, 3), [1, 2])
    assert importance(space, random_trials(space, 5), [1.0] * 5) == {"lr": 0.0}


def test_plot_shows_each_trial_and_each_setting(whole):
    import matplotlib.pyplot as plt

    figure = plot_study(study(), whole[0])
    left, right = figure.axes
    assert len([line for line in left.lines if len(line.get_xdata()) == 5]) == 8 and [t.get_text() for t in left.get_xticklabels()] == ["lr", "warmup", "nhead", "norm_first", "rank"]
    assert [t.get_text() for t in right.get_yticklabels()] == ["lr", "warmup", "nhead", "norm_first"]
    plt.close(figure)


# From a shell

def shell(*argv):
    parser = argparse.ArgumentParser("transformer-nb")
    add_tune(parser.add_subparsers(required=True))
    args = parser.parse_args([str(a) for a in argv])
    return args.run(args)


HALVING = ("--method", "halving", "--trials", 8, "--budget", 12, "--eta", 2, "--finalists", 2, "--seeds", 2)


def test_command_runs_the_study(whole, tmp_path, capsys):
    (tmp_path / "space.txt").write_text("# mine\n" + SPACE.replace(",", "\n"))
    assert shell("tune", "reverse", "--space", tmp_path / "space.txt", *HALVING, "--workers", 2, "--out", tmp_path / "out") == 0
    same_files(tmp_path / "out", whole[1])
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "halving search: 8 trials to step 3, 4 trials to step 6, 2 trials to step 12; 48 steps, and up to 48 for the finals"
    assert len(lines) == 18 + 2 + 1 and lines[-3].startswith(f"trial {finals(whole[0])[0]['trial']:>3}, mean of 2 seeds: loss {finals(whole[0])[0]['loss']:.4f}")
    assert lines[-1].endswith(f"train with: transformer-nb train reverse --recipe {tmp_path / 'out' / 'recipe.json'}")
    assert shell("tune", "reverse", "--out", tmp_path / "out", "--resume") == 0
    same_files(tmp_path / "out", whole[1])


def test_recipe_goes_into_train(whole, tmp_path):
    assert main(["train", "--recipe", str(whole[1] / "recipe.json"), "--out", str(tmp_path / "run"), "--quiet", "--test-size", "10"]) == 0
    trained = Trainer.load(tmp_path / "run" / "training.safetensors")
    settings = json.loads((whole[1] / "recipe.json").read_text())["settings"]
    assert trained.step == 12 and trained.task.max_len == 3 and all(getattr(trained.config if hasattr(trained.config, n) else trained.model.config, n) == v for n, v in settings.items() if n != "max_len")


def test_command_takes_a_file_of_pairs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.tsv").write_text("".join(f"{a}{b}\t{b}{a}\n" for a in "abcdef" for b in "abcdef"))
    space = f"lr=1e-3..1e-1:log,{FIXED}".replace("max_len=3,", "")
    assert shell("tune", "words.tsv", "--space", space, "--trials", 3, "--budget", 6, "--finalists", 1, "--seeds", 1) == 0
    recipe = json.loads((tmp_path / "runs" / "tune-words" / "recipe.json").read_text())
    assert recipe["task"] == "pairs" and recipe["settings"]["path"] == "words.tsv" and make_trainer(recipe["task"], **recipe["settings"]).config.steps == 6


@pytest.mark.parametrize("argv, error, part", [
    (["reverse"], ValueError, "--space is needed"), (["reverse", "--space", "nowhere.txt"], FileNotFoundError, "neither settings"), (["reverse", "--space", "."], OSError, "directory"),
    (["reverse", "--space", "broken.txt"], ValueError, "broken.txt, line 2: lr: 'x' is not a number"), (["reverse", "--space", "binary.txt"], ValueError, "not UTF-8"),
    (["reverse", "--space", "lr=1e-3..1e-1", "--workers", "0"], ValueError, "--workers 0"), (["reverse", "--space", "lr=1e-3..1e-1", "--method", "best"], ValueError, "random, grid, halving"),
    (["sing", "--space", "lr=1e-3..1e-1"], ValueError, "unknown task 'sing'"), (["reverse", "--resume"], FileNotFoundError, "no study in"),
    (["reverse", "--resume", "--trials", "3", "--seed", "1"], ValueError, "leave out --trials, --seed"), (["identity", "--resume", "--out", "whole"], ValueError, "task 'reverse', not 'identity'"),
    (["reverse", "--space", "lr=1e-3..1e-1", "--out", "whole"], ValueError, "another study"), (["reverse", "--space", SPACE, *map(str, HALVING), "--out", "whole"], ValueError, "this study already, with 18 results"),
])
def test_wrong_commands(whole, tmp_path, monkeypatch, argv, error, part):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "whole").symlink_to(whole[1])
    (tmp_path / "broken.txt").write_text("warmup=1..5\nlr=x..1\n")
    (tmp_path / "binary.txt").write_bytes(b"lr=\xff")
    with pytest.raises(error, match=part):
        shell("tune", *argv)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["binary.txt", "broken.txt", "whole"]


# The other back end

@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_twin_trains_the_same_trials(tmp_path):
    pytest.importorskip("jax")
    pytest.importorskip("optax")
    few = dict(method="random", trials=2, rungs=2, repeats=0, space=f"lr=1e-3..1e-2:log,nhead=2,dropout=0.0,{FIXED}")
    rows = tune(study(**few), tmp_path / "numpy", 0)
    twin = tune(study(backend="jax", **few), tmp_path / "jax", 0)  # goes on at the second rung with what it saved at the first
    assert [{k: v for k, v in r.items() if k != "loss"} for r in twin] == [{k: v for k, v in r.items() if k != "loss"} for r in rows]
    assert all(abs(a["loss"] - b["loss"]) < 1e-4 for a, b in zip(twin, rows))
    once = tune(study(backend="jax", **few | dict(rungs=1)), tmp_path / "once", 0)
    assert [r["loss"] for r in once] == [r["loss"] for r in twin if r["stage"] == "2"]


def test_the_twin_needs_jax(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs JAX and optax: pip install"):
        tune(study(backend="jax"), tmp_path / "none", 0)
    assert not (tmp_path / "none").exists()


# What the chapter shows

STORED = Path(__file__).parents[1] / "nbs" / "data" / "tuning"


def again(name, trials, stage, folder):
    "Loss and exact match of some trials of a stored study, run again, beside what is stored."
    stored, rows = read_study(STORED / name)
    steps = stored.plan()[int(stage) - 1][1]
    for trial in trials:
        old = next(r for r in rows if (r["stage"], r["trial"]) == (stage, trial))
        new = run_trial(stored.task, stored.draw()[trial] | dict(seed=stored.seed, steps=stored.budget, eval_every=stored.budget), steps, str(folder / f"{name}-{trial}"))
        yield old, new


def test_stored_studies_begin_as_they_are_stored(tmp_path):
    for old, new in again("pool", (0, 5), "1", tmp_path):
        assert abs(new["loss"] / old["loss"] - 1) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name, stage", [("pool", "5"), ("grid", "1"), ("halving", "1"), ("short", "1"), ("landscape", "1")])
def test_stored_studies_can_be_run_again(tmp_path, name, stage):
    for old, new in again(name, (0, 3, 9), stage, tmp_path):
        assert abs(new["loss"] / old["loss"] - 1) < 0.1 and abs(new["exact_match"] - old["exact_match"]) < 0.1  # another processor rounds differently


def test_stored_halving_is_the_pool_cut_short():
    rows = {name: read_study(STORED / name)[1] for name in ("pool", "halving")}
    pool = {(r["trial"], r["steps"]): (r["loss"], r["exact_match"]) for r in rows["pool"] if r["stage"] != "final"}
    cut = {(r["trial"], r["steps"]): (r["loss"], r["exact_match"]) for r in rows["halving"] if r["stage"] != "final"}
    assert cut == {key: pool[key] for key in cut} and len(cut) == 32 + 16 + 8
