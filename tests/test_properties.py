"Invariances, forward and backward, for sizes and switches that hypothesis draws: what must not change, does not."
import random
from dataclasses import dataclass, field, fields, replace

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import example, given, settings, strategies as st

from transformer_nb.attention import (KeyValueCache, Masks, MultiHeadAttention, attention_weights, attention_weights_bwd, causal_mask, make_masks,
                                      merge_heads, mix_values, mix_values_bwd, padding_mask, scaled_dot_product_attention,
                                      scaled_dot_product_attention_bwd, split_heads)
from transformer_nb.foundations import BaseLayer, get_random_state, set_random_state
from transformer_nb.layers import (GELU, Dropout, FeedForward, InputEmbedding, LayerNorm, Linear, LogSoftmax, PositionalEncoding, ReLU,
                                   ResidualConnection, Softmax, column_sums, embed, embed_bwd, erf, gelu, gelu_bwd, layer_norm, layer_norm_bwd,
                                   linear, linear_bwd, log_softmax, log_softmax_bwd, make_activation, relu, relu_bwd, row_sums, softmax, softmax_bwd)
from transformer_nb.learning import (CharTokenizer, CrossEntropyLoss, batches, clip_grad_norm, cross_entropy, cross_entropy_bwd, get_task,
                                     greedy_decode, load_model, make_batch, make_optimizer, make_schedule, predict, save_model)
from transformer_nb.model import (Decoder, DecoderBlock, Encoder, EncoderBlock, Projection, Transformer, TransformerConfig, forward_stages)

settings.register_profile("book", deadline=None, derandomize=True, database=None, max_examples=30)  # the same examples on every run
settings.load_profile("book")
TOL = 1e-10      # float64: largest difference, relative to the largest value of the result, that is rounding
MAX_LEN = 12     # rows of learned positions
ACTIVATIONS = ["relu", "gelu", "gelu_tanh"]
seeds = st.integers(0, 999)


# Comparing

def same(actual, expected, what="result", tol=TOL):
    "Fail unless two arrays, numbers or dicts of them agree up to rounding."
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys(), f"{what}: names differ, {sorted(actual.keys() ^ expected.keys())}"
        for name in expected:
            same(actual[name], expected[name], f"{what}, {name}", tol)
        return
    a, e = np.asarray(actual), np.asarray(expected)
    assert a.shape == e.shape, f"{what}: shape {a.shape}, expected {e.shape}"
    error, largest = np.abs(a - e).max(initial=0), max(1, np.abs(e).max(initial=0))
    assert error <= tol * largest, f"{what}: differs by {error:.1e}, the largest value is {largest:.1e}"


def same_bits(actual, expected, what="result"):
    "Fail unless two dicts of arrays agree in names, types, shapes and every bit."
    assert actual.keys() == expected.keys(), f"{what}: names differ, {sorted(actual.keys() ^ expected.keys())}"
    for name in expected:
        a, e = np.asarray(actual[name]), np.asarray(expected[name])
        assert (a.dtype, a.shape, a.tobytes()) == (e.dtype, e.shape, e.tobytes()), f"{what}, {name}: not the same bits"


def zero(array, what):
    "Fail unless every entry is exactly 0."
    assert not np.any(array), f"{what}: largest entry {np.abs(array).max():.1e} (NaN counts), all must be exactly 0"


def finite(values, what="result"):
    "Fail for NaN or infinity anywhere."
    for name, a in values.items():
        assert np.isfinite(a).all(), f"{what}, {name}: {np.count_nonzero(~np.isfinite(a))} values are not finite"


# Any layer

class Residual(BaseLayer):
    "A residual connection around a linear map."

    def __init__(self, case):
        self.residual, self.linear = ResidualConnection(case.D, case.norm_first, case.p, bias=case.bias, **case.made), Linear(case.D, case.D, **case.made)

    def forward(self, x):
        return self.residual(x, self.linear)

    def backward(self, dy):
        return self.residual.backward(dy, self.linear.backward)


LAYERS = {  # name → the layer and what it is called with
    "linear": lambda c: (Linear(c.D, c.F, c.bias, **c.made), c.floats(c.B, c.T, c.D)),
    "activation": lambda c: (make_activation(c.activation), c.floats(c.B, c.T, c.F)),
    "softmax": lambda c: (Softmax(), c.floats(c.B, c.T, c.S), c.mask(c.B, c.T, c.S)),
    "log-softmax": lambda c: (LogSoftmax(), c.floats(c.B, c.T, c.S)),
    "embedding": lambda c: (InputEmbedding(c.V, c.D, 0, **c.made), c.ids(c.B, c.T)),
    "positions": lambda c: (PositionalEncoding(c.D), c.floats(c.B, c.T, c.D)),
    "learned positions": lambda c: (PositionalEncoding(c.D, True, MAX_LEN, **c.made), c.floats(c.B, c.T, c.D)),
    "dropout": lambda c: (Dropout(c.p, c.seed), c.floats(c.B, c.T, c.D)),
    "layer norm": lambda c: (LayerNorm(c.D, bias=c.bias, dtype=c.dtype), c.floats(c.B, c.T, c.D)),
    "residual": lambda c: (Residual(c), c.floats(c.B, c.T, c.D)),
    "feed-forward": lambda c: (FeedForward(c.D, c.F, c.activation, c.p, c.bias, **c.made), c.floats(c.B, c.T, c.D)),
    "projection": lambda c: (Projection(c.D, c.V, bias=c.bias, **c.made), c.floats(c.B, c.T, c.D)),
    "self-attention": lambda c: (MultiHeadAttention(c.D, c.H, c.p, c.bias, **c.made), c.floats(c.B, c.T, c.D), None, c.mask(c.B, c.H, c.T, c.T)),
    "cross-attention": lambda c: (MultiHeadAttention(c.D, c.H, c.p, c.bias, **c.made), c.floats(c.B, c.T, c.D), c.floats(c.B, c.S, c.D),
                                  c.mask(c.B, 1, 1, c.S)),
    "encoder block": lambda c: (EncoderBlock(c.D, c.H, c.F, **c.block), c.floats(c.B, c.S, c.D), c.mask(c.B, 1, 1, c.S)),
    "decoder block": lambda c: (DecoderBlock(c.D, c.H, c.F, **c.block), c.floats(c.B, c.T, c.D), c.floats(c.B, c.S, c.D), causal_mask(c.T),
                                c.mask(c.B, 1, 1, c.S)),
    "encoder": lambda c: (Encoder(c.L, c.D, c.H, c.F, **c.block), c.floats(c.B, c.S, c.D), c.mask(c.B, 1, 1, c.S)),
    "decoder": lambda c: (Decoder(c.L, c.D, c.H, c.F, **c.block), c.floats(c.B, c.T, c.D), c.floats(c.B, c.S, c.D), causal_mask(c.T),
                          c.mask(c.B, 1, 1, c.S)),
    "transformer": lambda c: (Transformer(c.config, seed=c.seed), c.ids(c.B, c.S), c.ids(c.B, c.T)),
    "loss": lambda c: (CrossEntropyLoss(0, c.smoothing), c.floats(c.B, c.T, c.V), c.ids(c.B, c.T)),
}


@dataclass(frozen=True)
class Case:
    "A layer by its name, with all the sizes and switches that it may ask for."
    name: str
    B: int
    T: int
    S: int
    H: int
    D: int
    F: int
    V: int
    L: int
    activation: str
    norm_first: bool
    bias: bool
    tied: bool
    learned: bool
    smoothing: float
    p: float
    seed: int
    dtype: type = np.float64

    @property
    def made(self): return dict(seed=self.seed, dtype=self.dtype)

    @property
    def block(self):
        return dict(dropout=self.p, attention_dropout=self.p, activation_dropout=self.p, activation=self.activation, norm_first=self.norm_first,
                    bias=self.bias, **self.made)

    @property
    def config(self):
        block = {name: value for name, value in self.block.items() if name not in ("seed", "dtype")}
        return TransformerConfig(self.V, self.D, self.H, self.L, self.L, self.F, tie_embeddings=self.tied, learned_positions=self.learned,
                                 max_len=MAX_LEN, dtype=np.dtype(self.dtype).name, **block)

    def floats(self, *shape): return self._rng.normal(size=shape).astype(self.dtype)
    def ids(self, *shape): return self._rng.integers(0, self.V, shape)
    def mask(self, *shape): return self._rng.random(shape) < 0.6  # now and then a row that sees nothing

    def build(self):
        "The layer and its inputs; the same ones each time."
        object.__setattr__(self, "_rng", np.random.default_rng(self.seed))
        layer, *inputs = LAYERS[self.name](self)
        return shake(layer, self.seed), inputs


def shake(layer, seed):
    "Parameters of size 1: fresh ones are so small that attention is nearly even, and biases are 0."
    rng = np.random.default_rng(seed)
    layer.set_parameters({n: p + rng.normal(0, 0.5, p.shape) for n, p in layer.get_parameters().items()})
    return layer


@st.composite
def cases(draw, *names, without=(), **fixed):
    "Any layer, or one of those named; `fixed` are fields of `Case` that are not drawn."
    H = draw(st.integers(1, 4))
    drawn = dict(name=st.sampled_from(names or [n for n in LAYERS if n not in without]), B=st.integers(1, 3), T=st.integers(1, 5), S=st.integers(1, 6),
                 D=st.integers(-(-4 // H), 4).map(lambda Dh: H * Dh), F=st.integers(1, 9), V=st.integers(4, 11), L=st.integers(1, 2),
                 activation=st.sampled_from(ACTIVATIONS), norm_first=st.booleans(), bias=st.booleans(), tied=st.booleans(), learned=st.booleans(),
                 smoothing=st.sampled_from([0.0, 0.1]), p=st.sampled_from([0.0, 0.3]), seed=seeds)
    return Case(H=H, **{n: draw(s) for n, s in drawn.items() if n not in fixed}, **fixed)


def upstream(y, seed):
    "A random gradient for an output, of its shape and type."
    dy = np.random.default_rng((seed, 1)).normal(size=np.shape(y))
    return dy.astype(y.dtype) if np.ndim(y) else float(dy)


def backward(layer, dy):
    "Gradients of the inputs and of the parameters, by name."
    dx = layer.backward(dy)
    dxs = dx if isinstance(dx, tuple) else () if dx is None else (dx,)
    return {f"gradient of input {i}": g for i, g in enumerate(dxs)} | {f"gradient of {n}": g for n, g in layer.get_gradients().items()}


def run(layer, inputs, dy):
    "Output and all gradients of one pass; dy may be a seed for a random one. Every pass sees the same dropout."
    layer.train().zero_grad()
    state = get_random_state(layer)
    y = layer(*inputs)
    set_random_state(layer, state)
    return {"output": y} | backward(layer, upstream(y, dy) if isinstance(dy, int) else dy)


def gradients(result): return {n: g for n, g in result.items() if n != "output"}


# A whole model and a batch

@dataclass
class Problem:
    "A model and a batch for it."
    model: Transformer
    source: np.ndarray
    target_in: np.ndarray
    target_out: np.ndarray
    smoothing: float
    seed: int
    pad: int = field(init=False)

    def __post_init__(self): self.pad = self.model.config.pad_id

    def __repr__(self):
        batch = ", ".join(f"{f.name}={np.asarray(getattr(self, f.name)).tolist()}" for f in fields(self)[1:-1])
        return f"Problem({self.model.config}, {batch})"

    @property
    def rng(self): return np.random.default_rng((self.seed, 2))

    def run(self, dlogits=None, **changes):
        "Logits, loss and all gradients; `changes` replaces parts of the batch. With `dlogits` the gradients are those, not the loss's."
        p, loss = replace(self, **changes), CrossEntropyLoss(self.pad, self.smoothing)
        p.model.train().zero_grad()
        logits = p.model(p.source, p.target_in)
        value = loss(logits, p.target_out)
        p.model.backward(loss.backward() if dlogits is None else dlogits)
        return {"logits": logits, "loss": value} | p.model.get_gradients()

    def rows(self, which):
        "Those sequences of the batch."
        return dict(source=self.source[which], target_in=self.target_in[which], target_out=self.target_out[which])


@st.composite
def models(draw, **fixed):
    "A Transformer of any size with any switches, and parameters of size 1; `fixed` are fields of the configuration."
    H, V = draw(st.integers(1, 4)), draw(st.integers(6, 12))
    drawn = dict(d_model=st.integers(-(-4 // H), 4).map(lambda Dh: H * Dh), num_encoder_layers=st.integers(1, 2), num_decoder_layers=st.integers(1, 2),
                 dim_feedforward=st.integers(1, 9), activation=st.sampled_from(ACTIVATIONS), norm_first=st.booleans(), bias=st.booleans(),
                 tie_embeddings=st.booleans(), learned_positions=st.booleans(), pad_id=st.sampled_from([0, V - 1]), dtype=st.just("float64"))
    config = TransformerConfig(V, nhead=H, max_len=MAX_LEN, **{n: draw(s) for n, s in drawn.items() if n not in fixed}, **fixed)
    tokenizer = CharTokenizer("abcdefghi"[:V - 3]) if config.pad_id == 0 else None
    seed = draw(seeds)
    return shake(Transformer(config, tokenizer, seed), seed)


@st.composite
def problems(draw, min_B=1, min_T=1, **fixed):
    "A model, and a batch whose rows are padded at the end, some of them from the start."
    model, B, S, T, seed = draw(models(**fixed)), draw(st.integers(min_B, 3)), draw(st.integers(1, 6)), draw(st.integers(min_T, 5)), draw(seeds)
    rng, c = np.random.default_rng(seed), model.config
    tokens = np.setdiff1d(np.arange(c.vocab_size), c.pad_id)

    def ids(length, filled):
        return np.where(np.arange(length) < np.array(filled)[:, None], rng.choice(tokens, (B, length)), c.pad_id)

    lengths = lambda most: draw(st.lists(st.integers(0, most), min_size=B, max_size=B))
    target_lengths = lengths(T)
    return Problem(model, ids(S, lengths(S)), ids(T, target_lengths), ids(T, target_lengths), draw(st.sampled_from([0.0, 0.1])), seed)


# Padding

def pad_more(ids, extra, pad):
    return np.pad(ids, ((0, 0), (0, extra)), constant_values=pad)


@given(problems(), st.integers(1, 5))
def test_extra_source_padding_changes_nothing(problem, extra):
    "More padding behind the sources: the same logits, loss and parameter gradients."
    same(problem.run(source=pad_more(problem.source, extra, problem.pad)), problem.run(), "with more source padding")


@given(problems(), st.integers(1, 5))
def test_extra_target_padding_changes_nothing(problem, extra):
    "More padding behind the targets: the same logits where they were, the same loss and parameter gradients."
    longer = {n: pad_more(getattr(problem, n), extra, problem.pad) for n in ("target_in", "target_out")}
    result = problem.run(**longer)
    result["logits"] = result["logits"][:, :problem.target_in.shape[1]]
    same(result, problem.run(), "with more target padding")


@given(cases("loss", seed=seeds), st.integers(1, 4)) if False else given(cases("loss"), st.integers(1, 4))
def test_ignored_targets_do_not_count(case, extra):
    "Tokens with an ignored target, whatever their logits: the same loss, no gradient on them, the same gradient elsewhere."
    loss, (logits, targets) = case.build()
    longer = np.concatenate([logits, 100 * case.floats(case.B, extra, case.V)], 1), pad_more(targets, extra, 0)
    short, long = run(loss, (logits, targets), 0.7), run(loss, longer, 0.7)
    zero(long["gradient of input 0"][:, case.T:], "gradient of ignored tokens")
    long["gradient of input 0"] = long["gradient of input 0"][:, :case.T]
    same(long, short)
