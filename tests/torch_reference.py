"""What PyTorch computes, for the tests of parity; `python tests/torch_reference.py` stores it in torch_reference.safetensors (needs the extra `torch`).

Every case is a dict of arrays in float64. All parameters of a case are one vector, in the alphabetical order of our names for them, and so are all gradients.
"""
from pathlib import Path

import numpy as np

from transformer_nb.foundations import make_rng
from transformer_nb.model import Transformer, TransformerConfig
from transformer_nb.proof import torch_forward

FILE = Path(__file__).with_suffix(".safetensors")
B, T, S, D, H, F, V = 2, 4, 5, 4, 2, 6, 9
SOURCE = np.array([[3, 4, 5, 8, 2], [6, 7, 2, 0, 0]])  # (B, S), the second row is padded
TARGET_IN = np.array([[1, 5, 4, 3], [1, 7, 0, 0]])     # (B, T)
TARGET_OUT = np.array([[5, 4, 3, 2], [7, 2, 0, 0]])
SMOOTHING, CLIP, STEPS = 0.1, 0.5, 20

MODELS = {
    "pre-norm": {},
    "post-norm": dict(norm_first=False),
    "pre-norm tied gelu": dict(tie_embeddings=True, activation="gelu"),
    "post-norm tied gelu_tanh": dict(norm_first=False, tie_embeddings=True, activation="gelu_tanh"),
    "without bias": dict(bias=False),
    "learned positions": dict(learned_positions=True, max_len=S),
}
OPTIMIZERS = {
    "sgd": dict(lr=0.05),
    "sgd momentum": dict(lr=0.02, momentum=0.9, weight_decay=0.01),
    "sgd nesterov": dict(lr=0.02, momentum=0.9, nesterov=True),
    "adam": dict(lr=0.01, betas=(0.9, 0.98), eps=1e-9),
    "adam weight decay": dict(lr=0.01, weight_decay=0.1),
    "adamw": dict(lr=0.01, weight_decay=0.1),
}


def config(switches):
    return TransformerConfig(V, D, H, 1, 2, F, dtype="float64", **switches)


def parameters(switches):
    "Parameters of about size 1, so that no part of the model is close to linear."
    rng = make_rng(7)
    return {n: a + rng.normal(0, 0.4, a.shape) for n, a in Transformer(config(switches), seed=0).get_parameters().items()}


def pack(arrays):
    "One vector of all arrays, in the order of their names."
    return np.concatenate([np.ravel(arrays[n]) for n in sorted(arrays)])


def unpack(vector, like):
    "The arrays again; `like` has their names and shapes."
    ends = np.cumsum([like[n].size for n in sorted(like)])
    assert ends[-1] == vector.size
    return {n: v.reshape(like[n].shape) for n, v in zip(sorted(like), np.split(vector, ends[:-1]))}


def leaves(arrays):
    "Tensors that collect gradients."
    import torch

    return {n: torch.tensor(a, requires_grad=True) for n, a in arrays.items()}


def results(start, P, **tensors):
    "What a case stores: parameters, their gradients, and further tensors."
    return dict(parameters=pack(start), gradients=pack({n: p.grad.numpy() for n, p in P.items()})) | {n: t.detach().numpy() for n, t in tensors.items()}


def loss_of(P, switches):
    import torch
    from torch.nn.functional import cross_entropy

    logits = torch_forward(P, config(switches), torch.tensor(SOURCE), torch.tensor(TARGET_IN))
    return logits, cross_entropy(logits.flatten(0, 1), torch.tensor(TARGET_OUT).flatten(), ignore_index=0, label_smoothing=SMOOTHING)


def model_case(name):
    "Logits, loss and all gradients of a whole model."
    start = parameters(MODELS[name])
    P = leaves(start)
    logits, loss = loss_of(P, MODELS[name])
    loss.backward()
    return results(start, P, logits=logits, loss=loss)


def optimizer_case(name):
    "The parameters after 20 steps with clipping, and the norm of the gradient before each."
    import torch

    P = leaves(parameters({}))
    optimizer = getattr(torch.optim, {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}[name.split()[0]])(P.values(), **OPTIMIZERS[name])
    norms = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss_of(P, {})[1].backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(P.values(), CLIP)))
        optimizer.step()
    return dict(start=pack(parameters({})), parameters=pack({n: p.detach().numpy() for n, p in P.items()}), norms=np.array(norms))


def attention_case(name):
    "`nn.MultiheadAttention` on its own: output, weights of every head, gradients of inputs and parameters."
    import torch
    from transformer_nb.proof import call_torch

    rng = make_rng(11)
    arrays = {f"W{r}": rng.normal(size=(D, D)) for r in "qkvo"} | {f"b{r}": rng.normal(size=D) for r in "qkvo"}
    x, memory, dy = rng.normal(size=(B, T, D)), rng.normal(size=(B, S, D)), rng.normal(size=(B, T, D))
    P, inputs = leaves(arrays), leaves(dict(x=x, memory=memory))
    module = torch.nn.MultiheadAttention(D, H, batch_first=True, dtype=torch.float64)
    options = dict(average_attn_weights=False)
    if name == "cross": args, options["key_padding_mask"] = (inputs["x"], inputs["memory"], inputs["memory"]), torch.tensor(SOURCE == 0)
    else: args, options["attn_mask"] = (inputs["x"],) * 3, torch.ones(T, T, dtype=torch.bool).triu(1)
    y, weights = call_torch(module, P, "encoder.blocks.0.self_attention.", "encoder.layers.0.self_attn.", *args, **options)
    y.backward(torch.tensor(dy))
    grads = dict(dx=inputs["x"].grad) | (dict(dmemory=inputs["memory"].grad) if name == "cross" else {})
    return results(arrays, P, y=y, weights=weights, **grads) | dict(x=x, memory=memory, dy=dy)


def layer_norm_case(name):
    import torch

    rng = make_rng(12)
    arrays = dict(gain=rng.normal(size=D), bias=rng.normal(size=D))
    x, dy = rng.normal(size=(B, T, D)), rng.normal(size=(B, T, D))
    P, tx = leaves(arrays), torch.tensor(x, requires_grad=True)
    module = torch.nn.LayerNorm(D, dtype=torch.float64)
    y = torch.func.functional_call(module, {"weight": P["gain"], "bias": P["bias"]}, (tx,))
    y.backward(torch.tensor(dy))
    return results(arrays, P, y=y, dx=tx.grad) | dict(x=x, dy=dy)


def loss_case(name):
    import torch
    from torch.nn.functional import cross_entropy

    logits = make_rng(13).normal(0, 2, (B, T, V))
    tensor = torch.tensor(logits, requires_grad=True)
    loss = cross_entropy(tensor.flatten(0, 1), torch.tensor(TARGET_OUT).flatten(), ignore_index=0, label_smoothing=float(name))
    loss.backward()
    return dict(logits=logits, loss=loss.detach().numpy(), dlogits=tensor.grad.numpy())


CASES = {f"{kind}/{name}": (function, name) for kind, function, names in [
    ("model", model_case, MODELS), ("optimizer", optimizer_case, OPTIMIZERS), ("attention", attention_case, ["self", "cross"]),
    ("layer norm", layer_norm_case, ["affine"]), ("loss", loss_case, ["0.0", "0.1"])] for name in names}


def live(case):
    "What the installed PyTorch computes for a case."
    function, name = CASES[case]
    return function(name)


def stored(case):
    "What was stored for it."
    from safetensors.numpy import load_file

    return {n.removeprefix(case + "/"): a for n, a in load_file(FILE).items() if n.startswith(case + "/")}


if __name__ == "__main__":
    import torch
    from safetensors.numpy import save_file

    tensors = {f"{case}/{n}": np.array(a, order="C") for case in CASES for n, a in live(case).items()}
    save_file(tensors, FILE, {"made by": f"python tests/torch_reference.py with PyTorch {torch.__version__}"})
    print(f"wrote {len(tensors)} arrays, {FILE.stat().st_size:,} bytes")
