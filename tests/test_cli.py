"The program as a user meets it: what it prints and what it writes. How it fails stands in test_bad_input.py."
import csv
import io
import subprocess
import sys

import pytest

from transformer_nb.cli import main
from transformer_nb.learning import load_model

TINY = "--d-model 8 --heads 2 --layers 1 --steps 6 --eval-every 3 --eval-size 4 --test-size 10 --quiet".split()
FILES = {"model.safetensors", "training.safetensors", "history.csv", "loss.png", "attention.png"}


def run(*argv):
    try:
        return main([str(a) for a in argv])
    except SystemExit as e:  # argparse
        return e.code


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "reverse"
    assert run("train", "reverse", "--out", out, *TINY) == 0
    return out


def test_train_writes_its_files(trained):
    assert {p.name for p in trained.iterdir()} == FILES
    rows = list(csv.DictReader(io.StringIO((trained / "history.csv").read_text())))
    assert [r["step"] for r in rows] == ["3", "6"] and set(rows[0]) == {"step", "loss", "exact_match", "lr", "grad_norm"}
    assert all((trained / name).read_bytes().startswith(b"\x89PNG") for name in ("loss.png", "attention.png"))
    assert load_model(trained / "model.safetensors").config.d_model == 8


def test_train_prints_score_and_table(tmp_path, capsys):
    assert run("train", "identity", "--out", tmp_path / "x", *TINY) == 0
    out = capsys.readouterr().out
    assert "exact match on 10 held-out strings: " in out and "apple -> " in out and ("✓" in out or "✗" in out)


def test_same_seed_same_files(trained, tmp_path):
    assert run("train", "reverse", "--out", tmp_path, *TINY) == 0
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (trained / name).read_bytes(), name


def test_predict_from_arguments_and_folder(trained, capsys):
    assert run("predict", trained, "apple", "banana") == 0
    first = capsys.readouterr().out
    assert [line.split(" -> ")[0] for line in first.splitlines()] == ["apple", "banana"]
    assert run("predict", trained / "model.safetensors", "apple", "banana") == 0
    assert capsys.readouterr().out == first


def test_predict_from_standard_input(trained, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("apple\nbanana\n"))
    assert run("predict", trained) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_predict_searches_and_samples(trained, capsys):
    def ask(*options):
        code = run("predict", trained, "apple", "fig", *options)
        out, err = capsys.readouterr()
        return (out.splitlines() if code == 0 else err)

    greedy = ask()
    assert ask("--beam", "1") == greedy and [line.rsplit("  (", 1)[0] for line in ask("--scores")] == greedy
    best = ask("--beam", "3", "--n", "3", "--scores")
    scores = [float(line.rsplit("(", 1)[1].rstrip(")")) for line in best]
    assert len(best) == 6 and all(s <= 0 for s in scores) and [line.split(" -> ")[0] for line in best] == ["apple"] * 3 + ["fig"] * 3
    drawn = ask("--temperature", "2", "--n", "4")
    assert len(drawn) == 8 and drawn == ask("--temperature", "2", "--n", "4", "--seed", "0") != ask("--temperature", "2", "--n", "4", "--seed", "1")
    assert ask("--top-k", "1") == greedy
    assert "--beam is for the search, --top-p for drawing" in ask("--beam", "2", "--top-p", "0.5")
    for options, message in ((("--beam", "0"), "beam_size"), (("--beam", "2", "--n", "3"), "num_return_sequences"), (("--temperature", "-1"), "temperature"), (("--top-p", "2"), "top_p"), (("--n", "0"), "num_return_sequences")):
        assert message in ask(*options), options


def test_predict_draws(trained, tmp_path):
    assert run("predict", trained, "apple", "--attention", tmp_path / "a.png") == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_predict_writes_the_viewer(trained, tmp_path):
    for suffix, start in ((".html", b"<!doctype html>"), (".png", b"\x89PNG"), (".svg", b"<?xml")):
        path = tmp_path / f"view{suffix}"
        assert run("predict", trained, "apple", "--view", path) == 0
        assert path.read_bytes().lower().startswith(start.lower())


def test_forward_prints_every_stage(capsys):
    assert run("forward", "apple tree") == 0
    out = capsys.readouterr().out
    assert "(1, 11)" in out and "encoder block 1" in out and "(1, 11, 64)" in out and out.count("(B, T, D)") >= 4
    assert "logits" in out and "(1, 11, 30)" in out


def test_stopped_run_is_kept_and_resumed(trained, tmp_path, capsys, monkeypatch):
    from transformer_nb.learning.training import Trainer

    fit = Trainer.fit
    monkeypatch.setattr(Trainer, "fit", lambda self, **kw: fit(self, until=3, **kw))
    assert run("train", "reverse", "--out", tmp_path, *TINY) == 130
    assert "stopped at step 3 of 6" in capsys.readouterr().out
    monkeypatch.undo()
    assert run("train", "reverse", "--out", tmp_path, *TINY) == 2
    assert "unfinished run (step 3 of 6)" in capsys.readouterr().err
    assert run("train", "reverse", "--out", tmp_path, "--resume", "--lr", "1", "--quiet") == 2
    assert "leave out lr" in capsys.readouterr().err
    assert run("train", "identity", "--out", tmp_path, "--resume", "--quiet") == 2
    assert "'reverse', not 'identity'" in capsys.readouterr().err
    assert run("train", "reverse", "--out", tmp_path, "--resume", "--quiet", "--test-size", 10) == 0
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (trained / name).read_bytes(), name


def test_verify_prints_the_ledger(capsys):
    assert run("verify", "linear", "MultiHeadAttention", "--no-torch") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:44].strip() for line in lines[1:-2]] == ["Linear", "Linear, no bias"] + [f"MultiHeadAttention, {kind}" for kind in ("self", "self, causal", "cross", "cross, padded")]
    assert lines[-1].startswith("all 6 components are within their bounds (numpy ")


def test_verify_fails_for_a_wrong_gradient(capsys, monkeypatch):
    import transformer_nb.layers.activations as activations

    monkeypatch.setattr(activations, "relu_bwd", lambda dy, y, **_: dy)
    assert run("verify", "ReLU", "GELU", "--no-torch") == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("WRONG: ReLU (numpy ")


@pytest.mark.parametrize("argv", [["--help"], ["train", "--help"], ["predict", "--help"], ["forward", "--help"], ["verify", "--help"], ["--version"]], ids=" ".join)
def test_runs_as_a_module(argv):
    done = subprocess.run([sys.executable, "-m", "transformer_nb", *argv], capture_output=True, text=True, encoding="utf-8", env=None)
    assert done.returncode == 0 and done.stdout and not done.stderr
