"Our model, its gradients and its optimisers against PyTorch: what was stored on every machine, and live where PyTorch is installed."
import importlib.util

import numpy as np
import pytest
import torch_reference as reference

from transformer_nb.attention import MultiHeadAttention, causal_mask, padding_mask
from transformer_nb.layers import LayerNorm
from transformer_nb.learning import CrossEntropyLoss, clip_grad_norm, make_optimizer
from transformer_nb.model import Transformer
from transformer_nb.proof import from_torch, to_torch, torch_module

TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not TORCH, reason="PyTorch is not installed")
SOURCES = ["stored", pytest.param("live", marks=needs_torch)]


def agree(actual, expected, tol=1e-10):
    "The same names and shapes, and no entry off by more than tol of the largest one."
    assert set(actual) == set(expected)
    for name, e in expected.items():
        a = np.asarray(actual[name])
        assert a.shape == e.shape, f"{name}: {a.shape}, PyTorch {e.shape}"
        error = np.abs(a - e).max() / max(1, np.abs(e).max())
        assert error <= tol, f"{name}: off by {error:.1e}"


def run(model, loss):
    "One training-mode forward and backward; gradients are left in the model."
    logits = model.train()(reference.SOURCE, reference.TARGET_IN)
    value = loss(logits, reference.TARGET_OUT)
    model.backward(loss.backward())
    return logits, value


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("dtype,tol", [("float64", 1e-10), ("float32", 1e-5)])
@pytest.mark.parametrize("name", reference.MODELS)
def test_model(name, dtype, tol, source):
    case = getattr(reference, source)(f"model/{name}")
    model = Transformer(reference.config(reference.MODELS[name]), seed=1).astype(dtype)
    model.set_parameters(reference.unpack(case["parameters"], model.get_parameters()))
    logits, loss = run(model, CrossEntropyLoss(0, reference.SMOOTHING))
    assert logits.dtype == dtype
    agree({"logits": logits, "loss": loss}, {"logits": case["logits"], "loss": case["loss"]}, tol)
    agree(model.get_gradients(), reference.unpack(case["gradients"], model.get_gradients()), tol)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", reference.OPTIMIZERS)
def test_twenty_optimiser_steps(name, source):
    case = getattr(reference, source)(f"optimizer/{name}")
    model = Transformer(reference.config({}), seed=1)
    model.set_parameters(reference.unpack(case["start"], model.get_parameters()))
    optimizer, loss, norms = make_optimizer(name.split()[0], model, **reference.OPTIMIZERS[name]), CrossEntropyLoss(0, reference.SMOOTHING), []
    for _ in range(reference.STEPS):
        optimizer.zero_grad()
        run(model, loss)
        norms.append(clip_grad_norm(optimizer.gradients, reference.CLIP))
        optimizer.step()
    agree({"norms": norms}, {"norms": case["norms"]})
    mine, theirs = model.get_parameters(), reference.unpack(case["parameters"], model.get_parameters())
    if name.startswith("adam"):  # a key bias has gradient 0 but for rounding; Adam makes steps of rounding, so no two implementations agree on it
        mine, theirs = ({n: a for n, a in d.items() if not n.endswith(".bk")} for d in (mine, theirs))
    agree(mine, theirs)
    assert np.min(norms) > reference.CLIP / 10  # the run did not die out


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", ["self", "cross"])
def test_multi_head_attention(name, source):
    case = getattr(reference, source)(f"attention/{name}")
    layer = MultiHeadAttention(reference.D, reference.H, seed=1).astype(np.float64)
    layer.set_parameters(reference.unpack(case["parameters"], layer.get_parameters()))
    layer.keep_weights = True
    inputs = (case["x"], case["memory"], padding_mask(reference.SOURCE)) if name == "cross" else (case["x"], None, causal_mask(reference.T))
    y, dx = layer(*inputs), layer.backward(case["dy"])
    dxs = dict(zip(("dx", "dmemory"), dx if name == "cross" else (dx,)))
    agree({"y": y, "weights": layer.weights} | dxs, {n: case[n] for n in ("y", "weights", *dxs)})
    agree(layer.get_gradients(), reference.unpack(case["gradients"], layer.get_gradients()))


@pytest.mark.parametrize("source", SOURCES)
def test_layer_norm(source):
    case = getattr(reference, source)("layer norm/affine")
    layer = LayerNorm(reference.D).astype(np.float64)
    layer.set_parameters(reference.unpack(case["parameters"], layer.get_parameters()))
    agree({"y": layer(case["x"]), "dx": layer.backward(case["dy"])}, {"y": case["y"], "dx": case["dx"]})
    agree(layer.get_gradients(), reference.unpack(case["gradients"], layer.get_gradients()))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("smoothing", ["0.0", "0.1"])
def test_cross_entropy(smoothing, source):
    case = getattr(reference, source)(f"loss/{smoothing}")
    loss = CrossEntropyLoss(0, float(smoothing))
    agree({"loss": loss(case["logits"], reference.TARGET_OUT), "dlogits": loss.backward()}, {"loss": case["loss"], "dlogits": case["dlogits"]})


def test_the_stored_file_is_complete_and_small():
    assert all(reference.stored(case) for case in reference.CASES)
    assert reference.FILE.stat().st_size < 300_000


@needs_torch
@pytest.mark.parametrize("case", reference.CASES)
def test_the_stored_file_is_what_pytorch_computes(case):
    agree(reference.stored(case), reference.live(case), 1e-8 if case.startswith("optimizer/adam") else 1e-12)  # Adam again: steps made of rounding


@needs_torch
@pytest.mark.parametrize("name", reference.MODELS)
def test_weights_there_and_back(name):
    config = reference.config(reference.MODELS[name])
    model = Transformer(config, seed=2)
    module = torch_module(config)
    module.load_state_dict(to_torch(model))  # strict: every name and shape fits
    back = from_torch(module.state_dict())
    expected = {n: a for n, a in model.get_parameters().items() if n.startswith(("encoder.", "decoder."))}
    assert back.keys() == expected.keys() and all(np.array_equal(back[n], a) for n, a in expected.items())


def test_from_torch_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="'encoder.layers.0.conv.weight' is not a parameter of torch.nn.Transformer"):
        from_torch({"encoder.layers.0.conv.weight": np.zeros(3)})
