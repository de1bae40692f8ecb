"The command line with `--backend jax`: the same kind of model file, the same answers, and clear words where it cannot be."
import importlib.util

import pytest

from transformer_nb.cli import main

SMALL = "--max-len 4 --d-model 16 --heads 2 --layers 1 --steps 40 --eval-every 20 --eval-size 20 --test-size 20 --quiet"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    pytest.importorskip("jax", reason="needs the extra jax")
    folder = tmp_path_factory.mktemp("run")
    assert main(f"train reverse --backend jax {SMALL} --out {folder}".split()) == 0
    return folder


@pytest.mark.jax
def test_training_writes_a_model_like_any_other(trained, capsys):
    assert {p.name for p in trained.iterdir()} == {"model.safetensors", "training.safetensors", "history.csv", "loss.png", "attention.png"}
    assert [line.split(",")[0] for line in (trained / "history.csv").read_text().splitlines()] == ["step", "20", "40"]


@pytest.mark.jax
@pytest.mark.parametrize("options", ["", "--beam 3"])
def test_both_back_ends_answer_alike(trained, capsys, options):
    said = {}
    for backend in ("numpy", "jax"):
        assert main(f"predict {trained} abc lamp q {options} --backend {backend}".split()) == 0
        said[backend] = capsys.readouterr().out
    assert said["jax"] == said["numpy"] and len(said["jax"].splitlines()) == 3


@pytest.mark.jax
@pytest.mark.parametrize("line, part", [("--scores", "--scores"), ("--n 2", "--n"), ("--temperature 2", "--temperature")])
def test_what_the_twin_does_not_do_is_refused(trained, capsys, line, part):
    assert main(f"predict {trained} abc --backend jax {line}".split()) == 2
    assert part in capsys.readouterr().err


@pytest.mark.jax
@pytest.mark.parametrize("first, then", [("jax", "jax"), ("jax", "numpy"), ("numpy", "jax")])
def test_a_stopped_run_goes_on_with_either(tmp_path, capsys, monkeypatch, first, then):
    pytest.importorskip("jax", reason="needs the extra jax")
    from transformer_nb.learning.training import Trainer

    fit = Trainer.fit
    with monkeypatch.context() as m:
        m.setattr(Trainer, "fit", lambda self, **kw: fit(self, until=30, **kw))
        assert main(f"train reverse --backend {first} {SMALL} --out {tmp_path}".split()) == 130
    assert "stopped at step 30 of 40" in capsys.readouterr().out and {p.name for p in tmp_path.iterdir()} == {"training.safetensors"}
    assert main(f"train reverse --backend {then} --resume --quiet --test-size 5 --out {tmp_path}".split()) == 0
    assert [line.split(",")[0] for line in (tmp_path / "history.csv").read_text().splitlines()] == ["step", "20", "40"]


def test_without_jax_the_extra_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(f"train reverse --backend jax --out {tmp_path}/x".split()) == 2
    assert "transformer-nb[jax]" in capsys.readouterr().err and not list(tmp_path.iterdir())
