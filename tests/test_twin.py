"The JAX twin against the hand-written model: names, outputs, every gradient, optimiser steps, files, compilations, and its errors."
import subprocess
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="needs the extra jax")
optax = pytest.importorskip("optax", reason="needs the extra jax")
import jax.numpy as jnp

from transformer_nb.attention import Masks
from transformer_nb.layers import Dropout, InputEmbedding, softmax
from transformer_nb.learning import Trainer, TrainingConfig, get_task, load_model, make_schedule, make_trainer, predict, save_model
from transformer_nb.learning.tasks import Batch, batches, make_batch
from transformer_nb.model import Transformer, TransformerConfig
from transformer_nb.twin.agreement import numpy_noise, twin_errors
from transformer_nb.twin.functions import dropout_factors, in_float64, look_up, masked_softmax
from transformer_nb.twin.model import _KNOWN, apply, build_masks, check_params, draw_noise, dropout_places, init, loss_fn, parameter_shapes
from transformer_nb.twin.training import TwinTrainer, as_model, bucket_length, clip_by_norm, follow, make_optax, pad_to_bucket, traced_schedule, train_step

PACKAGE = Path(__file__).parents[1] / "transformer_nb"
V = 11
SOURCE = np.array([[3, 4, 5, 6, 7, 2], [8, 9, 2, 0, 0, 0], [0, 0, 0, 0, 0, 0]])  # the last one sees nothing
TARGET_IN = np.array([[1, 7, 6, 5, 4], [1, 9, 8, 0, 0], [1, 3, 0, 0, 0]])
TARGET_OUT = np.array([[7, 6, 5, 4, 2], [9, 8, 2, 0, 0], [3, 2, 0, 0, 0]])
BATCH = Batch(SOURCE, TARGET_IN, TARGET_OUT)
CONFIG = TransformerConfig(V, 8, 2, 1, 1, 12)
NOISY = dict(dropout=0.1, attention_dropout=0.2, activation_dropout=0.3)
VARIANTS = {
    "pre-norm": NOISY,
    "post-norm": NOISY | dict(norm_first=False),
    "pre-norm, tied": NOISY | dict(tie_embeddings=True),
    "post-norm, tied": NOISY | dict(norm_first=False, tie_embeddings=True),
    "without biases, GELU": dict(bias=False, activation="gelu"),
    "learned positions, another pad_id, tanh": dict(learned_positions=True, max_len=9, pad_id=10, activation="gelu_tanh", layer_norm_eps=0.1),
    "from the end, shifted": dict(positions_from_end=True, position_shifts=5),
    "from the end, shifted, learned": dict(positions_from_end=True, position_shifts=5, learned_positions=True, max_len=12),
}


def shaken(config, seed=0):
    "A model whose every parameter is random, so that nothing can hide behind a zero bias or a gain of one."
    model, rng = Transformer(config, seed=seed), np.random.default_rng(seed)
    model.set_parameters({n: a + 0.2 * rng.normal(size=a.shape) for n, a in model.get_parameters().items()})
    return model


def with_pad(config):
    return Batch(*(np.where(a == 0, config.pad_id, a) for a in BATCH))


@pytest.mark.parametrize("name", VARIANTS)
def test_names_and_shapes(name):
    config = replace(CONFIG, **VARIANTS[name])
    for sizes in ({}, dict(num_encoder_layers=3, num_decoder_layers=2)):
        model = Transformer(replace(config, **sizes), seed=0)
        assert list(parameter_shapes(model.config).items()) == [(n, a.shape) for n, a in model.get_parameters().items()]
        places = dropout_places(model.config, 2, 3, 4)
        assert {n: p for n, (_, p) in places.items()} == {n: layer.p for n, layer in model.named_layers() if isinstance(layer, Dropout) and layer.p}


def test_every_setting_is_known():
    assert {f.name for f in fields(TransformerConfig)} == _KNOWN, "teach the twin the new settings, with a variant above"


@pytest.mark.parametrize("name,smoothing", [(name, 0.1) for name in VARIANTS] + [("pre-norm", 0.0), ("post-norm, tied", 0.0)])
def test_outputs_loss_and_every_gradient(name, smoothing):
    config = replace(CONFIG, dtype="float64", **VARIANTS[name])
    errors = twin_errors(shaken(config), with_pad(config), smoothing)
    assert len(errors) == len(in_float64(parameter_shapes, config)) + 2
    assert max(errors.values()) <= 1e-10, max(errors, key=errors.get)


@pytest.mark.parametrize("name", ["pre-norm", "post-norm, tied"])
def test_float32(name):
    errors = twin_errors(shaken(replace(CONFIG, **VARIANTS[name])), BATCH, 0.1)
    assert errors["logits"] < 1e-5 and errors["loss"] < 1e-6
    assert max(e for n, e in errors.items() if not n.endswith(".bk")) < 1e-4  # the gradient of a key bias is rounding


OPTIMIZERS = {
    "adam": dict(dropout=0.1, attention_dropout=0.1, activation_dropout=0.1),
    "adam, L2, inverse_sqrt": dict(weight_decay=0.1, schedule="inverse_sqrt"),
    "adamw, constant": dict(optimizer="adamw", weight_decay=0.1, schedule="constant", lr=1e-3),
    "sgd": dict(optimizer="sgd", momentum=0.9, nesterov=True, weight_decay=0.01, lr=0.1),
}


@pytest.mark.parametrize("name,dtype,tol", [(name, "float64", 1e-10) for name in OPTIMIZERS] + [("adam", "float32", 1e-4), ("sgd", "float32", 1e-4)])
def test_twenty_steps_stay_together(name, dtype, tol):
    trainer = make_trainer("reverse", **dict(max_len=6, batch_size=8, steps=20, warmup=5, lr=4e-3, clip_norm=0.5, label_smoothing=0.1, d_model=16, nhead=2, dim_feedforward=24,
        num_encoder_layers=1, num_decoder_layers=1, norm_first=False, tie_embeddings=True, dtype=dtype) | OPTIMIZERS[name])
    start = trainer.model.get_parameters()
    rows = follow(trainer, 20)
    assert len(rows) == 20
    for row in rows:
        assert abs(row["loss"] - row["twin_loss"]) <= tol and abs(row["grad_norm"] / row["twin_grad_norm"] - 1) <= tol
        worst = {n: e for n, e in row["errors"].items() if not n.endswith(".bk")}  # Adam makes full steps of a key bias's rounding
        assert max(worst.values()) <= tol, max(worst, key=worst.get)
    moved = {n: np.abs(a - start[n]).max() for n, a in trainer.model.get_parameters().items()}
    assert min(e for n, e in moved.items() if not n.endswith(".bk")) > 1e-4  # every parameter went somewhere
    assert max(row["grad_norm"] for row in rows) > trainer.config.clip_norm  # and clipping was at work


@pytest.mark.parametrize("name", ["constant", "inverse_sqrt", "warmup_cosine"])
@pytest.mark.parametrize("warmup,steps", [(1, 1), (3, 10), (20, 10)])
def test_schedules(name, warmup, steps):
    t = TrainingConfig(schedule=name, lr=0.3, warmup=warmup, steps=steps)
    rates = in_float64(lambda: jax.vmap(traced_schedule(t))(jnp.arange(25)))
    np.testing.assert_allclose(rates, [make_schedule(name, 0.3, warmup, steps)(k) for k in range(1, 26)], atol=1e-15)


def test_one_checkpoint_serves_both(tmp_path):
    sizes = dict(d_model=16, nhead=2, dim_feedforward=24, num_encoder_layers=1, num_decoder_layers=1, max_len=4)
    trainer = make_trainer("identity", steps=30, warmup=5, eval_every=30, eval_size=5, **sizes)
    trainer.fit(progress=False)  # trained in NumPy …
    save_model(trainer.model, tmp_path / "numpy.safetensors")
    there = load_model(tmp_path / "numpy.safetensors")
    batch = make_batch([("abc", "abc"), ("d", "d")], there.tokenizer)
    np.testing.assert_allclose(apply(there.get_parameters(), there.config, batch.source, batch.target_in), there(batch.source, batch.target_in), atol=1e-5)
    twin = TwinTrainer(there, trainer.task, trainer.config)
    history = twin.fit(progress=False)  # … trained on in JAX …
    assert [row["step"] for row in history] == [30] and history[0].keys() == trainer.history[0].keys()
    assert history[0]["loss"] < trainer.history[0]["loss"]
    save_model(there, tmp_path / "jax.safetensors")
    back = load_model(tmp_path / "jax.safetensors")  # … and read in NumPy again
    assert all(np.array_equal(back.get_parameters()[n], a) for n, a in there.get_parameters().items())
    assert len(predict(back, ["abc"])) == 1


RUN = dict(max_len=6, batch_size=8, steps=20, warmup=5, eval_every=10, eval_size=5, d_model=16, nhead=2, dim_feedforward=24, num_encoder_layers=1, num_decoder_layers=1)


def twin_of(**changes):
    made = make_trainer("reverse", **RUN | changes)
    return TwinTrainer(made.model, made.task, made.config)


def test_the_trainers_of_both_tell_the_same_story():
    twin, trainer, seen = twin_of(pool=2), make_trainer("reverse", **RUN, pool=2), []
    for mine, theirs in zip(twin.fit(progress=False, callbacks=[lambda t: seen.append(t.step)]), trainer.fit(progress=False), strict=True):
        assert mine["step"] == theirs["step"] and abs(mine["loss"] - theirs["loss"]) < 1e-3 and mine["lr"] == theirs["lr"]
    assert seen == [10, 20]


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_run_of_the_twin_goes_on_where_it_was(tmp_path, dropout):
    file = tmp_path / "state"
    whole, half = twin_of(dropout=dropout), twin_of(dropout=dropout)
    whole.fit(progress=False)
    half.fit(7, progress=False, save_to=file)  # between two evaluations: losses wait in the file
    resumed = TwinTrainer.load(file)
    assert resumed.step == 7
    resumed.fit(progress=False)
    assert resumed.history == whole.history
    assert all(np.array_equal(resumed.model.get_parameters()[n], a) for n, a in whole.model.get_parameters().items())


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_either_trainer_goes_on_where_the_other_has_stopped(tmp_path, optimizer):
    file, settings = tmp_path / "state", dict(optimizer=optimizer, momentum=0.9, weight_decay=0.01, dtype="float64")
    alone, first = make_trainer("reverse", **RUN | settings), twin_of(**settings)
    alone.fit(progress=False)
    first.fit(6, progress=False, save_to=file)
    second = Trainer.load(file)
    second.fit(13, progress=False, save_to=file)
    third = TwinTrainer.load(file)
    third.fit(progress=False)
    for n, a in alone.model.get_parameters().items():
        if not n.endswith(".bk"):  # the gradient of a key bias is rounding
            np.testing.assert_allclose(third.model.get_parameters()[n], a, atol=1e-10, err_msg=n)


def test_what_was_put_into_the_model_between_two_fits_counts():
    twin = twin_of()
    twin.fit(5, progress=False)
    twin.model.projection.b.data[:] = 1.0
    twin.train_step(next(batches(twin.task, twin.model.tokenizer, 8, 0)))
    twin.fetch()
    assert (abs(twin.model.projection.b.data - 1) < 0.1).all()


def test_few_compilations():
    config, t = TransformerConfig(29, 8, 2, 1, 1, 12), TrainingConfig(steps=50, lr=3e-3)
    tokenizer = get_task("identity").tokenizer()
    params = init(config, jax.random.key(0))
    state, before = make_optax(t).init(params), train_step._cache_size()
    for n in range(1, 16):  # 2 to 16 ids, two buckets
        batch = pad_to_bucket(make_batch([("a" * n, "a" * n)] * 2, tokenizer), 0, 8)
        params, state, loss, _ = train_step(params, state, config, t, batch, jax.random.key(n))
    assert train_step._cache_size() - before == 2


def test_more_padding_changes_nothing():
    params = shaken(replace(CONFIG, dtype="float64")).get_parameters()
    gradient = jax.jit(jax.value_and_grad(loss_fn), static_argnames=("config", "train"))
    run = lambda batch: in_float64(gradient, params, config=replace(CONFIG, dtype="float64"), batch=batch, train=False)
    (loss, g), (padded_loss, padded_g) = run(BATCH), run(pad_to_bucket(BATCH, 0, 8, rows=5))
    assert abs(loss - padded_loss) < 1e-12
    for n in g:
        np.testing.assert_allclose(padded_g[n], g[n], atol=1e-12)
    assert pad_to_bucket(BATCH, 0, 8, longest=7).source.shape == (3, 7) and bucket_length(17) == 24
    with pytest.raises(ValueError, match="3 sequences, more than rows=2"):
        pad_to_bucket(BATCH, rows=2)


def test_a_step_that_is_not_finite_changes_nothing_and_fit_says_where():
    config, t = TransformerConfig(29, 8, 2, 1, 1, 12), TrainingConfig(steps=4, eval_every=2, eval_size=2, batch_size=2)
    params = init(config, jax.random.key(0)) | {"projection.b": jnp.full(29, jnp.nan)}
    copies, state = {n: np.array(a) for n, a in params.items()}, make_optax(t).init(params)
    old = params["projection.W"]
    params, state, loss, _ = train_step(params, state, config, t, pad_to_bucket(make_batch([("ab", "ba")] * 2, get_task("reverse").tokenizer())), jax.random.key(0))
    assert np.isnan(loss) and all(np.array_equal(params[n], a, equal_nan=True) for n, a in copies.items())
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(state))
    assert old.is_deleted()  # donated
    with pytest.raises(FloatingPointError, match="nan at step 1; try a smaller lr"):
        model = Transformer(config, get_task("reverse").tokenizer(), seed=0)
        model.projection.b.data[:] = np.nan
        TwinTrainer(model, get_task("reverse", max_len=6), t).fit(progress=False)


def test_rows_that_see_nothing():
    x, mask = np.random.default_rng(0).normal(size=(2, 4)), np.array([[True, False, True, False], [False] * 4])
    p, back = in_float64(lambda x: (lambda y, f: (y, f(jnp.ones_like(y) * 3.0)[0]))(*jax.vjp(lambda x: masked_softmax(x, mask), x)), x)
    np.testing.assert_allclose(p, softmax(x, mask), atol=1e-15)
    assert not p[1].any() and not back[1].any() and np.isfinite(back).all() and not back[:, 3].any()


def test_the_row_of_pad_gets_no_gradient():  # seen alone: in a masked model nobody looks at it anyway
    layer = InputEmbedding(V, 8, padding_idx=0, seed=0).astype(np.float64)
    dy = np.random.default_rng(0).normal(size=(3, 6, 8))
    y = layer(SOURCE)
    layer.backward(dy)
    mine, back = in_float64(lambda E: (lambda y, f: (y, f(jnp.asarray(dy))[0]))(*jax.vjp(lambda E: look_up(SOURCE, E, 0), E)), layer.E.data)
    np.testing.assert_allclose(mine, y, atol=1e-15)
    np.testing.assert_allclose(back, layer.E.grad, atol=1e-12)
    assert not back[0].any() and back[3].any()


def test_masks_are_those_of_the_book():
    from transformer_nb.attention import make_masks

    for mine, theirs in zip(jax.jit(build_masks)(SOURCE, TARGET_IN), make_masks(SOURCE, TARGET_IN)):
        assert np.array_equal(mine, theirs)
    model = shaken(CONFIG).eval()
    own = Masks(None, np.tri(5, dtype=bool)[None, None], np.ones((3, 1, 5, 6), bool))
    np.testing.assert_allclose(apply(model.get_parameters(), CONFIG, SOURCE, TARGET_IN, own), model(SOURCE, TARGET_IN, own), atol=1e-5)


def test_init():
    config = TransformerConfig(40, 64, 4, 1, 1, 256, learned_positions=True)
    params, again = init(config, jax.random.key(0)), init(config, jax.random.key(0))
    assert {n: a.shape for n, a in params.items()} == parameter_shapes(config) and all(a.dtype == jnp.float32 for a in params.values())
    assert all(np.array_equal(params[n], again[n]) for n in params)
    assert not np.array_equal(params["projection.W"], init(config, jax.random.key(1))["projection.W"])
    matrices = [np.asarray(a).ravel() for a in params.values() if a.ndim == 2]
    assert len({a[:3].tobytes() for a in matrices if a.any()}) >= len(matrices) - 2  # no numbers are used twice (the rows of <pad> are 0)
    for n, a in Transformer(config, seed=0).get_parameters().items():
        assert a.ndim == 2 or np.array_equal(params[n], a), n  # gains are 1, biases 0
        assert abs(np.std(params[n]) - np.std(a)) <= 0.05 * np.std(a), n
        assert np.abs(params[n]).max() <= max(1.02 * np.abs(a).max(), 0.11), n


def test_noise():
    config = replace(CONFIG, position_shifts=3, **NOISY)
    noise = draw_noise(jax.random.key(0), config, 300, 6, 5)
    for n, (shape, p) in dropout_places(config, 300, 6, 5).items():
        assert noise[n].shape == shape and abs(float((noise[n] == 0).mean()) - p) < 0.03 and abs(float(noise[n].mean()) - 1) < 0.05
    assert {int(draw_noise(jax.random.key(k), config, 1, 2, 2)["shift"]) for k in range(30)} == {0, 1, 2}
    model = Transformer(config, seed=0).train()
    first, again = numpy_noise(model, 3, 6, 5), numpy_noise(model, 3, 6, 5)
    model(SOURCE, TARGET_IN)
    assert all(np.array_equal(first[n], again[n]) for n in first)
    assert any(not np.array_equal(first[n], a) for n, a in numpy_noise(model, 3, 6, 5).items())


def test_remat_changes_no_gradient():
    config = replace(CONFIG, dropout=0.2)
    gradient = jax.jit(jax.grad(loss_fn), static_argnames=("config", "remat"))
    params = shaken(config).get_parameters()
    plain, again = (gradient(params, config=config, batch=BATCH, key=jax.random.key(1), remat=remat) for remat in (False, True))
    for n in plain:
        np.testing.assert_allclose(again[n], plain[n], atol=1e-5)


@dataclass(frozen=True)
class Newer(TransformerConfig):
    gate: str = "soft"


PARAMS = {n: np.zeros(s, np.float32) for n, s in parameter_shapes(CONFIG).items()}
FULL = np.full((2, 3), 5)
WRONG = {
    "unknown setting": (ValueError, r"does not know the settings gate='soft'", lambda: init(Newer(V), jax.random.key(0))),
    "config": (TypeError, "config is a dict", lambda: apply(PARAMS, {}, FULL, FULL)),
    "config traced": (TypeError, "static_argnames", lambda: jax.jit(apply)(PARAMS, CONFIG, FULL, FULL)),
    "float64 outside": (ValueError, r"jax.enable_x64\(True\)", lambda: init(replace(CONFIG, dtype="float64"), jax.random.key(0))),
    "key": (TypeError, "key=0 is a int", lambda: init(CONFIG, 0)),
    "keys": (TypeError, "one key is needed", lambda: init(CONFIG, jax.random.split(jax.random.key(0)))),
    "missing": (ValueError, "missing 'projection.b'", lambda: apply({n: a for n, a in PARAMS.items() if n != "projection.b"}, CONFIG, FULL, FULL)),
    "unexpected": (ValueError, "unexpected 'x'", lambda: check_params(PARAMS | {"x": np.zeros(1)}, CONFIG)),
    "shape": (ValueError, r"'projection.b' has shape \(3,\), expected \(11,\)", lambda: check_params(PARAMS | {"projection.b": np.zeros(3, np.float32)}, CONFIG)),
    "dtype": (ValueError, "dtype float64, expected float32", lambda: check_params(PARAMS | {"projection.b": np.zeros(V)}, CONFIG)),
    "no array": (ValueError, "is a list, not an array", lambda: check_params(PARAMS | {"projection.b": [0.0] * V}, CONFIG)),
    "no dict": (TypeError, "params is a list", lambda: check_params([], CONFIG)),
    "id": (ValueError, "apply: source: id 11 at", lambda: apply(PARAMS, CONFIG, FULL + 6, FULL)),
    "float ids": (TypeError, "integers are needed", lambda: apply(PARAMS, CONFIG, FULL, FULL + 0.5)),
    "float ids, traced": (TypeError, "integers are needed", lambda: jax.jit(lambda s: apply(PARAMS, CONFIG, s, FULL))(FULL + 0.5)),
    "batch sizes": (ValueError, "with the same B", lambda: apply(PARAMS, CONFIG, FULL[:1], FULL)),
    "empty": (ValueError, "not empty", lambda: apply(PARAMS, CONFIG, FULL[:, :0], FULL)),
    "masks": (TypeError, "masks is a tuple", lambda: apply(PARAMS, CONFIG, FULL, FULL, (None, None, None))),
    "additive mask": (TypeError, "a mask is a boolean array", lambda: apply(PARAMS, CONFIG, FULL, FULL, Masks(None, np.zeros((3, 3)), None))),
    "mask of a wrong size": (ValueError, "does not broadcast", lambda: apply(PARAMS, CONFIG, FULL, FULL, Masks(None, np.ones((4, 4), bool), None))),
    "no key": (ValueError, "a key is needed", lambda: apply(PARAMS, replace(CONFIG, dropout=0.1), FULL, FULL, train=True)),
    "key without train": (ValueError, "train=False", lambda: apply(PARAMS, CONFIG, FULL, FULL, key=jax.random.key(0))),
    "key and noise": (ValueError, "both a key and noise", lambda: apply(PARAMS, CONFIG, FULL, FULL, key=jax.random.key(0), noise={}, train=True)),
    "noise": (ValueError, "noise has the places", lambda: apply(PARAMS, replace(CONFIG, dropout=0.1), FULL, FULL, noise={}, train=True)),
    "positions": (ValueError, "needs positions up to 2, the learned table has 2 rows", lambda: in_learned(2)),
    "targets": (ValueError, "one shape", lambda: loss_fn(PARAMS, CONFIG, Batch(FULL, FULL, FULL[:, :2]))),
    "rate": (ValueError, "below 1", lambda: dropout_factors(jnp.zeros(3, jnp.uint16), 1.0)),
    "bits": (TypeError, "uint16", lambda: dropout_factors(jnp.zeros(3, jnp.uint32), 0.5)),
    "bucket": (ValueError, "width=0", lambda: bucket_length(3, 0)),
    "steps": (ValueError, "steps=0", lambda: follow(make_trainer("reverse"), 0)),
    "as_model": (ValueError, "nothing was changed", lambda: as_model({}, CONFIG)),
}


def in_learned(rows):
    config = replace(CONFIG, learned_positions=True, max_len=rows)
    return apply({n: np.zeros(s, np.float32) for n, s in parameter_shapes(config).items()}, config, FULL, FULL)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use(name):
    error, message, call = WRONG[name]
    with pytest.raises(error, match=message):
        call()


def test_clipping_is_that_of_the_book_and_not_of_optax():
    from transformer_nb.learning import clip_grad_norm

    g = {"a": np.array([3.0]), "b": np.array([4.0])}
    clipped = lambda transformation: in_float64(lambda: transformation.update(g, transformation.init(g))[0])
    ours = np.array([3.0, 4.0])
    clip_grad_norm(ours, 1.0)
    mine, theirs = clipped(clip_by_norm(1.0)), clipped(optax.clip_by_global_norm(1.0))
    np.testing.assert_allclose([mine["a"][0], mine["b"][0]], ours, rtol=1e-15)
    assert abs(theirs["a"][0] - ours[0]) > 1e-8
    assert clipped(clip_by_norm(9.0))["b"][0] == 4.0


@pytest.mark.parametrize("absent,module", [("jax", "twin"), ("jax", "twin.functions"), ("jax", "twin.model"), ("optax", "twin.training")])
def test_without_the_extra_the_import_says_what_to_install(absent, module):
    if not (PACKAGE / "twin" / "__init__.py").exists() and module == "twin":
        pytest.skip("the part has no __init__ yet")
    code = f"import sys; sys.modules[{absent!r}] = None; import transformer_nb.{module}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode and "ImportError" in run.stderr and "pip install 'transformer-nb[jax]'" in run.stderr, run.stderr


def test_float64_stays_inside():
    in_float64(apply, shaken(replace(CONFIG, dtype="float64")).get_parameters(), replace(CONFIG, dtype="float64"), SOURCE, TARGET_IN)
    assert not jax.config.jax_enable_x64 and jnp.asarray(np.zeros(1)).dtype == jnp.float32
