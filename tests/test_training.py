"Training is repeatable, can be stopped and resumed bit for bit, and learns."
import signal

import numpy as np
import pytest

from transformer_nb.learning import Trainer, batches, exact_match, get_task, load_model, make_batch, make_trainer, predict, save_model

TINY = dict(d_model=8, nhead=2, dim_feedforward=16, num_encoder_layers=1, num_decoder_layers=1, eval_size=4)


def tiny(**changes):
    return make_trainer("reverse", **TINY | dict(steps=12, eval_every=4, dropout=0.1, attention_dropout=0.1) | changes)


def test_same_seed_gives_the_same_bytes(tmp_path):
    for name in "ab":
        trainer = tiny(seed=3)
        trainer.fit(progress=False, save_to=tmp_path / f"{name}.safetensors")
        save_model(trainer.model, tmp_path / f"{name}_model.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert (tmp_path / "a_model.safetensors").read_bytes() == (tmp_path / "b_model.safetensors").read_bytes()


def test_another_seed_gives_other_parameters():
    a, b = (tiny(seed=s).model.get_parameters() for s in (0, 1))
    assert not np.array_equal(a["encoder.blocks.0.self_attention.Wq"], b["encoder.blocks.0.self_attention.Wq"])


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("stop", [1, 4, 6])
def test_resumed_equals_uninterrupted(tmp_path, stop, optimizer):
    settings = dict(optimizer=optimizer, momentum=0.9 if optimizer == "sgd" else 0.0, lr=1e-3)
    whole = tiny(**settings)
    whole.fit(progress=False, save_to=tmp_path / "whole.safetensors")
    tiny(**settings).fit(stop, progress=False, save_to=tmp_path / "half.safetensors")
    resumed = Trainer.load(tmp_path / "half.safetensors")
    assert resumed.step == stop
    resumed.fit(progress=False, save_to=tmp_path / "resumed.safetensors")
    assert (tmp_path / "resumed.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_ctrl_c_finishes_the_step_saves_and_resumes(tmp_path):
    trainer = tiny()
    trainer.fit(progress=False, save_to=tmp_path / "a.safetensors", callbacks=[lambda t: signal.raise_signal(signal.SIGINT)])
    assert trainer.step == 4  # the first evaluation sent the signal
    resumed = Trainer.load(tmp_path / "a.safetensors")
    resumed.fit(progress=False)
    whole = tiny()
    whole.fit(progress=False)
    assert all(np.array_equal(a, whole.model.get_parameters()[n]) for n, a in resumed.model.get_parameters().items())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_no_held_out_string_is_ever_trained_on():
    task = get_task("reverse", max_len=2)  # few strings, so that a leak would show
    tokenizer = task.tokenizer()
    stream = batches(task, tokenizer, 64, seed=0)
    trained = {tokenizer.decode(row) for _ in range(40) for row in next(stream).source}
    held_out = {s for s, _ in task.sample(np.random.default_rng(0), 500, held_out=True)}
    assert held_out and trained and not held_out & trained


def test_batches_are_numbered():
    task = get_task("identity")
    for pool in (1, 4):
        stream = batches(task, task.tokenizer(), 8, seed=5, pool=pool)
        first = [next(stream) for _ in range(7)]
        later = next(batches(task, task.tokenizer(), 8, seed=5, start=6, pool=pool))
        assert np.array_equal(first[6].source, later.source) and np.array_equal(first[6].target_out, later.target_out)


def test_teacher_forcing_shift():
    task = get_task("reverse")
    batch = make_batch([("apple", "elppa"), ("ab", "ba")], task.tokenizer())
    decode = task.tokenizer().decode
    assert [decode(r) for r in batch.source] == ["apple", "ab"]
    assert [decode(r) for r in batch.target_out] == ["elppa", "ba"]
    assert np.array_equal(batch.target_in[:, 1:][batch.target_in[:, 1:] > 2], batch.target_out[:, :-1][batch.target_out[:, :-1] > 2])
    assert (batch.target_in[:, 0] == 1).all() and (batch.target_in != 2).all()


def test_a_small_model_learns_to_copy_short_strings():
    trainer = make_trainer("identity", d_model=16, nhead=2, dim_feedforward=32, num_encoder_layers=1, num_decoder_layers=1,
                           max_len=3, steps=400, lr=1e-2, eval_every=400)
    trainer.fit(progress=False)
    assert trainer.history[-1]["exact_match"] > 0.9  # 0.99 to 1 when it was written; an untrained model has 0


def test_decoding_leaves_the_mode_as_it_was():
    trainer = tiny()
    predict(trainer.model.train(), ["abc"], 4)
    assert trainer.model.training
    predict(trainer.model.eval(), ["abc"], 4)
    assert not trainer.model.training


def test_saved_model_answers_the_same(tmp_path):
    trainer = tiny()
    trainer.fit(progress=False)
    save_model(trainer.model, tmp_path / "model.safetensors")
    model = load_model(tmp_path / "model.safetensors")
    assert predict(model, ["apple", "pear"]) == predict(trainer.model, ["apple", "pear"])
    assert model.tokenizer == trainer.model.tokenizer and model.config == trainer.model.config


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("task", ["identity", "reverse"])
def test_the_default_recipe_reaches_three_nines(task, seed):
    trainer = make_trainer(task, seed)
    trainer.fit(progress=False)
    held_out = trainer.task.sample(np.random.default_rng(99), 10_000, held_out=True)
    score = exact_match(trainer.model, held_out)
    print(f"{task} seed {seed}: {score:.2%}")
    assert score >= 0.999


def test_the_bar_tells_beforehand_how_long_it_will_take_and_changes_nothing(capsys):
    runs = {}
    for progress in (False, True):
        trainer = make_trainer("reverse", steps=3, eval_every=3, eval_size=2, d_model=8, nhead=2, dim_feedforward=8, dropout=0.1)
        trainer.fit(progress=progress)
        runs[progress] = trainer.model.get_parameters()
        assert ("reverse, about " in capsys.readouterr().err) == progress
    assert all(np.array_equal(runs[False][n], runs[True][n]) for n in runs[True])
