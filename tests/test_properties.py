"Invariances, forward and backward, for sizes and switches that hypothesis draws: what must not change, does not."
import random
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from transformer_nb.attention import (Masks, MultiHeadAttention, attention_weights, attention_weights_bwd, causal_mask, make_masks, merge_heads,
                                      mix_values, mix_values_bwd, padding_mask, scaled_dot_product_attention, scaled_dot_product_attention_bwd,
                                      split_heads)
from transformer_nb.foundations import BaseLayer, Parameter, get_random_state, set_random_state
from transformer_nb.layers import (Dropout, FeedForward, InputEmbedding, LayerNorm, Linear, LogSoftmax, PositionalEncoding, ResidualConnection,
                                   Softmax, column_sums, embed, embed_bwd, erf, gelu, gelu_bwd, layer_norm, layer_norm_bwd, linear, linear_bwd,
                                   log_softmax, log_softmax_bwd, make_activation, relu, relu_bwd, row_sums, softmax, softmax_bwd)
from transformer_nb.learning import (CharTokenizer, CrossEntropyLoss, batches, clip_grad_norm, cross_entropy, cross_entropy_bwd, get_task,
                                     greedy_decode, load_model, make_batch, make_optimizer, make_schedule, predict, save_model)
from transformer_nb.model import (Decoder, DecoderBlock, Encoder, EncoderBlock, Projection, Transformer, TransformerConfig, forward_stages)

settings.register_profile("book", deadline=None, derandomize=True, database=None, max_examples=60)  # the same examples on every run
settings.load_profile("book")
few = settings(max_examples=12)  # for properties that are tested for each of many layers
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
        self.residual = ResidualConnection(case.D, case.norm_first, case.p, bias=case.bias, **case.made)
        self.linear = Linear(case.D, case.D, **case.made)

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


@dataclass
class Case:
    "All the sizes and switches that a layer may ask for."
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

    def floats(self, *shape): return self.rng.normal(size=shape).astype(self.dtype)
    def ids(self, *shape): return self.rng.integers(0, self.V, shape)
    def mask(self, *shape): return self.rng.random(shape) < 0.6  # now and then a row that sees nothing
    def heads(self, lengths): return [self.floats(self.B, self.H, getattr(self, n), self.F) for n in lengths]

    def start(self):
        "Random numbers from the beginning."
        self.rng = np.random.default_rng(self.seed)
        return self

    def build(self, name):
        "The layer of that name, its parameters shaken, and its inputs; the same ones each time."
        layer, *inputs = LAYERS[name](self.start())
        return shake(layer, self.seed), inputs


def shake(layer, seed):
    "Parameters of size 1: fresh ones are so small that attention is nearly even, and biases are 0."
    rng = np.random.default_rng(seed)
    for _, part in layer.named_layers():
        for p in vars(part).values():
            if isinstance(p, Parameter):
                p.data += rng.normal(0, 0.5, p.shape).astype(p.dtype)
    return layer


def widths(H):
    "Multiples of H from 4 on: a norm of two numbers keeps only their order, and magnifies rounding."
    return st.integers(-(-4 // H), 4).map(lambda Dh: H * Dh)


@st.composite
def cases(draw, **fixed):
    "Any sizes and switches; `fixed` are fields of `Case` that are not drawn."
    H = draw(st.integers(1, 4))
    drawn = dict(B=st.integers(1, 3), T=st.integers(1, 5), S=st.integers(1, 6), D=widths(H), F=st.integers(1, 9), V=st.integers(4, 11),
                 L=st.integers(1, 2), activation=st.sampled_from(ACTIVATIONS), norm_first=st.booleans(), bias=st.booleans(), tied=st.booleans(),
                 learned=st.booleans(), smoothing=st.sampled_from([0.0, 0.1]), p=st.sampled_from([0.0, 0.3]), seed=seeds)
    return Case(H=H, **{n: draw(s) for n, s in drawn.items() if n not in fixed}, **fixed)


def layers(*names):
    "The property is tested for each of these layers by itself."
    return pytest.mark.parametrize("name", names)


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

    def __post_init__(self): self.pad, self.rng = self.model.config.pad_id, np.random.default_rng((self.seed, 2))

    def __repr__(self):
        ids = {n: getattr(self, n).tolist() for n in ("source", "target_in", "target_out")}
        return f"Problem({self.model.config}, {ids}, smoothing={self.smoothing}, seed={self.seed})"

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
    drawn = dict(d_model=widths(H), num_encoder_layers=st.integers(1, 2), num_decoder_layers=st.integers(1, 2), dim_feedforward=st.integers(1, 9),
                 activation=st.sampled_from(ACTIVATIONS), norm_first=st.booleans(), bias=st.booleans(), tie_embeddings=st.booleans(),
                 learned_positions=st.booleans(), pad_id=st.sampled_from([0, V - 1]), dtype=st.just("float64"))
    config = TransformerConfig(V, nhead=H, max_len=MAX_LEN, **{n: draw(s) for n, s in drawn.items() if n not in fixed}, **fixed)
    tokenizer = CharTokenizer("abcdefghi"[:V - 3]) if config.pad_id == 0 else None
    seed = draw(seeds)
    return shake(Transformer(config, tokenizer, seed), seed)


@st.composite
def problems(draw, min_B=1, min_T=1, **fixed):
    "A model, and a batch whose rows are all full or padded at the end, some of them from the start."
    model, B, S, T, seed = draw(models(**fixed)), draw(st.integers(min_B, 3)), draw(st.integers(1, 6)), draw(st.integers(min_T, 5)), draw(seeds)
    rng, c = np.random.default_rng(seed), model.config
    tokens = np.setdiff1d(np.arange(c.vocab_size), c.pad_id)

    def ids(length, filled):
        return np.where(np.arange(length) < np.array(filled)[:, None], rng.choice(tokens, (B, length)), c.pad_id)

    lengths = lambda most: draw(st.just([most] * B) | st.lists(st.integers(0, most), min_size=B, max_size=B))
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


@given(cases(), st.integers(1, 4))
def test_ignored_targets_do_not_count(case, extra):
    "More tokens whose target is ignored, whatever their logits: the same loss and gradient, and none on them."
    loss, (logits, targets) = case.build("loss")
    longer = np.concatenate([logits, 100 * case.floats(case.B, extra, case.V)], 1), pad_more(targets, extra, 0)
    short, long = run(loss, (logits, targets), 0.7), run(loss, longer, 0.7)
    zero(long["gradient of input 0"][:, case.T:], "gradient of ignored tokens")
    same(long | {"gradient of input 0": long["gradient of input 0"][:, :case.T]}, short)


@layers("cross-attention", "decoder block", "decoder")
@given(case=cases(), size=st.sampled_from([1.0, 1e4]))
def test_what_the_mask_hides_does_not_matter(name, case, size):
    "Other numbers in hidden places of the memory: the same output and gradients, and exactly none on those places."
    layer, (x, memory, *masks) = case.build(name)
    hidden = ~masks[-1][:, 0, 0]
    other = memory.copy()
    other[hidden] = size * case.floats(hidden.sum(), case.D)
    a, b = run(layer, (x, memory, *masks), 0), run(layer, (x, other, *masks), 0)
    zero(a["gradient of input 1"][hidden], "gradient of hidden memory")
    same(b, a, "with other hidden values")


# The future

@given(problems(min_T=2), st.data())
def test_a_future_token_changes_nothing_earlier(problem, data):
    "Other target tokens from t on: the logits before t stay, and so do all gradients of anything computed from them."
    T = problem.target_in.shape[1]
    t = data.draw(st.integers(1, T - 1), "t")
    changed = problem.target_in.copy()
    changed[:, t:] = problem.rng.integers(0, problem.model.config.vocab_size, changed[:, t:].shape)
    dlogits = problem.rng.normal(size=(*changed.shape, problem.model.config.vocab_size))
    dlogits[:, t:] = 0
    before, after = (problem.run(dlogits, target_in=ids) for ids in (problem.target_in, changed))
    for result in before, after:
        result["logits"] = result["logits"][:, :t]
        del result["loss"]
    same(after, before, f"with another future from {t} on")


@layers("decoder", "decoder block")
@given(case=cases(), data=st.data())
def test_no_gradient_reaches_the_future(name, case, data):
    "An upstream gradient on positions before t only gives the inputs from t on exactly none."
    layer, inputs = case.build(name)
    t = data.draw(st.integers(0, case.T), "t")
    dy = case.floats(case.B, case.T, case.D)
    dy[:, t:] = 0
    zero(run(layer, inputs, dy)["gradient of input 0"][:, t:], f"gradient of the inputs from {t} on")


# The batch

@given(problems(min_B=2))
def test_a_batch_of_n_equals_n_batches_of_1(problem):
    "The logits one by one; loss and parameter gradients as means over tokens, so each sequence weighs as many as it has."
    ones = [problem.run(**problem.rows([i])) for i in range(len(problem.source))]
    tokens = (problem.target_out != problem.pad).sum(1)
    weights = tokens / max(1, tokens.sum())
    expected = {n: sum(w * one[n] for w, one in zip(weights, ones)) for n in ones[0] if n != "logits"}
    same(problem.run(), {"logits": np.concatenate([one["logits"] for one in ones])} | expected, "together")


@layers(*[n for n in LAYERS if n != "loss"])
@given(case=cases(p=0.0))
def test_every_layer_treats_each_sequence_alone(name, case):
    "Outputs and input gradients of a batch are those of its rows, parameter gradients their sum."
    layer, inputs = case.build(name)
    whole = run(layer, inputs, 0)
    dy = upstream(whole["output"], 0)
    row = lambda x, i: x if x is None or len(x) != case.B else x[i:i + 1]
    ones = [run(layer, [row(x, i) for x in inputs], dy[i:i + 1]) for i in range(case.B)]
    joined = {n: np.concatenate if n == "output" or n.startswith("gradient of input") else sum for n in whole}
    same(whole, {n: join([one[n] for one in ones]) for n, join in joined.items()}, "together")


@given(problems(min_B=2), st.data())
def test_permuting_the_batch_permutes_the_result(problem, data):
    "Sequences in another order: their logits in that order, the same loss and parameter gradients."
    order = data.draw(st.permutations(range(len(problem.source))), "order")
    expected = problem.run()
    expected["logits"] = expected["logits"][order]
    same(problem.run(**problem.rows(order)), expected, "permuted")


# Order within a sequence

@layers("encoder", "encoder block")
@given(case=cases(p=0.0), data=st.data())
def test_encoder_without_positions_is_permutation_equivariant(name, case, data):
    "Tokens in another order: outputs and input gradients in that order, the same parameter gradients."
    layer, (x, mask) = case.build(name)
    order = data.draw(st.permutations(range(case.S)), "order")
    dy = case.floats(*x.shape)
    expected = run(layer, (x, mask), dy)
    for n in ("output", "gradient of input 0"):
        expected[n] = expected[n][:, order]
    same(run(layer, (x[:, order], mask[..., order]), dy[:, order]), expected, f"in the order {order}")


@layers("cross-attention", "decoder block", "decoder")
@given(case=cases(p=0.0), data=st.data())
def test_the_order_of_the_memory_does_not_matter(name, case, data):
    "Memory and mask in another order: the same output, the memory's gradient in that order, all others the same."
    layer, (x, memory, *masks, memory_mask) = case.build(name)
    order = data.draw(st.permutations(range(case.S)), "order")
    expected = run(layer, (x, memory, *masks, memory_mask), 0)
    expected["gradient of input 1"] = expected["gradient of input 1"][:, order]
    same(run(layer, (x, memory[:, order], *masks, memory_mask[..., order]), 0), expected, f"in the order {order}")


# Nothing to see

@given(cases(), st.sampled_from([1.0, 1e4]))
def test_hidden_entries_have_no_weight_and_no_gradient(case, size):
    "Softmax with a mask: exactly 0 where hidden, rows sum to 1 or, if nothing is visible, to 0; nothing is NaN."
    layer, (x, mask) = case.build("softmax")
    mask[0, 0] = False
    result = run(layer, (size * x, mask), 0)
    finite(result)
    zero(result["output"][~mask], "weights of hidden entries")
    zero(result["gradient of input 0"][~mask], "gradients of hidden entries")
    same(result["output"].sum(-1), mask.any(-1).astype(float), "sums of the weights")


@layers("self-attention", "cross-attention")
@given(case=cases(p=0.0), data=st.data())
def test_a_query_that_sees_nothing_gets_zeros(name, case, data):
    "A fully masked row of attention: context 0, so the output is its bias; no gradient goes back, and none is NaN."
    layer, (x, memory, _) = case.build(name)
    mask = case.mask(case.B, 1, case.T, case.S if memory is not None else case.T)
    blind = case.rng.random((case.B, case.T)) < 0.5
    blind[data.draw(st.integers(0, case.B - 1), "row")] = True  # a whole sequence too
    mask[blind[:, None]] = False
    layer.keep_weights = True
    dy = case.floats(*x.shape)
    result = run(layer, (x, memory, mask), dy)
    finite(result)
    zero(layer.weights.swapaxes(1, 2)[blind], "weights of blind queries")
    bias = layer.bo.data if layer.bo else np.zeros(case.D)
    assert (result["output"][blind] == bias).all(), "a blind query's output is not the bias"
    dy[~blind] = 0
    blind_only = run(layer, (x, memory, mask), dy)
    for n, g in gradients(blind_only).items():
        if n != "gradient of bo":
            zero(g, f"{n}, from blind queries only")


@given(problems(), st.sampled_from(["source", "target_in"]), st.data())
def test_a_sequence_of_padding_gives_no_nan(problem, side, data):
    "A fully padded source or target: everything is finite, and the other sequences' logits stay as they were."
    row = data.draw(st.integers(0, len(problem.source) - 1), "row")
    blank = getattr(problem, side).copy()
    blank[row] = problem.pad
    result = problem.run(**{side: blank})
    finite(result)
    others = np.arange(len(blank)) != row
    same(result["logits"][others], problem.run()["logits"][others], "the other sequences")


@given(problems())
def test_if_nothing_counts_loss_and_gradients_are_zero(problem):
    "All targets padding: loss 0 and every gradient exactly 0."
    result = problem.run(target_out=np.full_like(problem.target_out, problem.pad))
    for name in result.keys() - {"logits"}:
        zero(result[name], name)


# Shifts

SHIFTS = st.sampled_from([1.0, -30.0, 1e3])


@layers("softmax", "log-softmax")
@given(case=cases(), size=SHIFTS)
def test_softmax_is_shift_invariant(name, case, size):
    "A number added to each row: the same result and gradient; and so the gradient sums to 0 along the row."
    layer, (x, *mask) = case.build(name)
    expected = run(layer, (x, *mask), 0)
    same(run(layer, (x + size * case.floats(case.B, case.T, 1), *mask), 0), expected, "shifted")
    same(expected["gradient of input 0"].sum(-1), np.zeros((case.B, case.T)), "sum of the gradient")


@given(cases(), SHIFTS)
def test_the_loss_is_shift_invariant(case, size):
    "A number added to all logits of a token: the same loss and gradient, which sums to 0 for each token."
    loss, (logits, targets) = case.build("loss")
    expected = run(loss, (logits, targets), 0)
    same(run(loss, (logits + size * case.floats(case.B, case.T, 1), targets), 0), expected, "shifted")
    same(expected["gradient of input 0"].sum(-1), np.zeros((case.B, case.T)), "sum of the gradient")


@given(cases(), SHIFTS)
def test_layer_norm_is_shift_invariant(case, size):
    "A number added to each vector: the same output and gradients, of which those of the input sum to 0 along the vector."
    layer, (x,) = case.build("layer norm")
    expected = run(layer, (x,), 0)
    same(run(layer, (x + size * case.floats(case.B, case.T, 1),), 0), expected, "shifted")
    same(expected["gradient of input 0"].sum(-1), np.zeros((case.B, case.T)), "sum of the gradient")


@layers("softmax", "log-softmax", "loss")
@given(case=cases(dtype=np.float32) | cases())
def test_scores_of_ten_thousand_are_survived(name, case):
    "Scores of ±1e4: weights sum to 1, log-weights and the loss are what plain arithmetic in longdouble gives, gradients are finite."
    layer, (x, *others) = case.build(name)
    x = (x + case.rng.choice([-1e4, 0, 1e4], x.shape)).astype(case.dtype)
    others = others if name == "loss" else []  # no mask
    result = run(layer, (x, *others), 0)
    finite(result)
    z = x.astype(np.longdouble)
    z -= z.max(-1, keepdims=True)
    z -= np.log(np.exp(z).sum(-1, keepdims=True))
    if name == "loss":
        targets, = others
        nll = (case.smoothing - 1) * np.take_along_axis(z, targets[..., None], -1)[..., 0] - case.smoothing * z.mean(-1)
        z = nll[targets != 0].mean() if targets.any() else 0.0
    same(result["output"], np.exp(z) if name == "softmax" else z, name, tol=1e-6 if case.dtype == np.float32 else TOL)


# Nothing of the caller's is modified

def frozen(values):
    "Read-only arrays, so that writing to one is an error, and what they hold."
    for x in values:
        if isinstance(x, np.ndarray):
            x.flags.writeable = False
    return {str(i): x.copy() for i, x in enumerate(values) if isinstance(x, np.ndarray)}


def unchanged(values, before):
    same_bits({str(i): x for i, x in enumerate(values) if isinstance(x, np.ndarray)}, before, "argument")


FUNCTIONS = {  # name → function and arguments; what a docstring calls "overwritten" is in OVERWRITTEN
    "linear": lambda c: (linear, c.floats(c.B, c.T, c.D), c.floats(c.D, c.F), c.floats(c.F)),
    "linear_bwd": lambda c: (linear_bwd, c.floats(c.B, c.T, c.F), c.floats(c.B, c.T, c.D), c.floats(c.D, c.F)),
    "column_sums": lambda c: (column_sums, c.floats(c.T, c.D)),
    "row_sums": lambda c: (row_sums, c.floats(c.T, c.D)),
    "relu": lambda c: (relu, c.floats(c.T, c.D)),
    "relu_bwd": lambda c: (relu_bwd, c.floats(c.T, c.D), c.floats(c.T, c.D)),
    "erf": lambda c: (erf, c.floats(c.T, c.D)),
    "gelu": lambda c: (gelu, c.floats(c.T, c.D), "tanh" if c.bias else "none"),
    "gelu_bwd": lambda c: (gelu_bwd, c.floats(c.T, c.D), c.floats(c.T, c.D), "tanh" if c.bias else "none"),
    "softmax": lambda c: (softmax, c.floats(c.B, c.T, c.S), c.mask(c.B, c.T, c.S) if c.bias else None),
    "softmax_bwd": lambda c: (softmax_bwd, c.floats(c.B, c.T, c.S), c.floats(c.B, c.T, c.S)),
    "log_softmax": lambda c: (log_softmax, c.floats(c.B, c.T, c.S)),
    "log_softmax_bwd": lambda c: (log_softmax_bwd, c.floats(c.B, c.T, c.S), c.floats(c.B, c.T, c.S)),
    "embed": lambda c: (embed, c.ids(c.B, c.T), c.floats(c.V, c.D)),
    "embed_bwd": lambda c: (embed_bwd, c.floats(c.B, c.T, c.D), c.ids(c.B, c.T), c.V),
    "layer_norm": lambda c: (layer_norm, c.floats(c.B, c.T, c.D), c.floats(c.D), c.floats(c.D) if c.bias else None),
    "layer_norm_bwd": lambda c: (layer_norm_bwd, c.floats(c.T, c.D), c.floats(c.T, c.D), c.floats(c.T, 1), c.floats(c.D)),
    "padding_mask": lambda c: (padding_mask, c.ids(c.B, c.S)),
    "make_masks": lambda c: (make_masks, c.ids(c.B, c.S), c.ids(c.B, c.T)),
    "split_heads": lambda c: (split_heads, c.floats(c.B, c.T, c.D), c.H),
    "merge_heads": lambda c: (merge_heads, c.floats(c.B, c.H, c.T, c.F)),
    "attention_weights": lambda c: (attention_weights, *c.heads("TS"), c.mask(c.B, 1, c.T, c.S)),
    "attention_weights_bwd": lambda c: (attention_weights_bwd, c.floats(c.B, c.H, c.T, c.S), c.floats(c.B, c.H, c.T, c.S), *c.heads("TS")),
    "mix_values": lambda c: (mix_values, c.floats(c.B, c.H, c.T, c.S), *c.heads("S")),
    "mix_values_bwd": lambda c: (mix_values_bwd, *c.heads("T"), c.floats(c.B, c.H, c.T, c.S), *c.heads("S")),
    "attention": lambda c: (scaled_dot_product_attention, *c.heads("TSS"), c.mask(1, 1, c.T, c.S)),
    "attention_bwd": lambda c: (scaled_dot_product_attention_bwd, *c.heads("TTSS"), c.floats(c.B, c.H, c.T, c.S)),
    "cross_entropy": lambda c: (cross_entropy, c.floats(c.T, c.V), c.ids(c.T), 0, c.smoothing),
    "cross_entropy_bwd": lambda c: (cross_entropy_bwd, 0.7, c.ids(c.T), c.floats(c.T, c.V), c.floats(c.T), c.smoothing),
}
OVERWRITTEN = {"attention_weights_bwd": 0, "cross_entropy_bwd": 2}
each_function = pytest.mark.parametrize("name", FUNCTIONS)


@each_function
@few
@given(case=cases())
def test_functions_leave_their_arguments_alone(name, case):
    "No function writes to an array that it was given, unless its docstring says so."
    function, *arguments = FUNCTIONS[name](case.start())
    kept = [x for i, x in enumerate(arguments) if i != OVERWRITTEN.get(name)]
    before = frozen(kept)
    function(*arguments)
    unchanged(kept, before)


@layers(*LAYERS)
@few
@given(case=cases())
def test_layers_leave_inputs_gradients_and_parameters_alone(name, case):
    "Neither forward nor backward writes to an input, to the upstream gradient or to a parameter."
    layer, inputs = case.build(name)
    dy = upstream(layer.eval()(*inputs), 0)
    arrays, parameters = [*inputs, dy], layer.get_parameters()
    before = frozen(arrays)
    run(layer, inputs, dy)
    unchanged(arrays, before)
    same_bits(layer.get_parameters(), parameters, "parameter")


@given(problems(pad_id=0))
def test_using_a_model_leaves_ids_and_parameters_alone(problem):
    "Training, decoding, looking at stages and at attention: ids, parameters and mode stay as they were."
    model = problem.model
    arrays, parameters = [problem.source, problem.target_in, problem.target_out], model.get_parameters()
    before = frozen(arrays)
    problem.run()
    greedy_decode(model, problem.source, 3)
    forward_stages(model, problem.source, problem.target_in)
    model.attention_maps(problem.source[0], problem.target_in[0])
    unchanged(arrays, before)
    same_bits(model.get_parameters(), parameters, "parameter")
    assert all(layer.training for _, layer in model.named_layers()), "a layer is no longer in train mode"


# Float types

@each_function
@few
@given(case=cases(dtype=np.float32) | cases(dtype=np.float16))
def test_functions_keep_the_float_type(name, case):
    "Every float array that a function returns has the type of those it was given."
    function, *arguments = FUNCTIONS[name](case.start())
    result = function(*arguments)
    found = {x.dtype for x in (result if isinstance(result, tuple) else (result,)) if isinstance(x, np.ndarray) and x.dtype != bool}
    assert found <= {np.dtype(case.dtype)}, f"{name}: {found} from {np.dtype(case.dtype)}"


@layers(*LAYERS)
@few
@given(case=cases(), dtype=st.sampled_from([np.float32, np.float16]))
def test_layers_keep_the_float_type(name, case, dtype):
    "Output, gradients of inputs and parameters, and the parameters have the layer's float type."
    if name == "transformer":
        dtype = np.float32  # a whole model has float32 or float64
    layer, inputs = replace(case, dtype=dtype).build(name)
    arrays = run(layer, inputs, 0) | layer.get_parameters()
    wrong = {n: a.dtype for n, a in arrays.items() if isinstance(a, np.ndarray) and a.dtype != dtype}
    assert not wrong, f"not {np.dtype(dtype)}: {wrong}"


OPTIMIZERS = st.sampled_from([("sgd", {}), ("sgd", dict(momentum=0.9, nesterov=True, weight_decay=0.01)), ("adam", dict(weight_decay=0.01)),
                              ("adamw", {}), ("adamw", dict(betas=(0.0, 0.0)))])


def train_steps(problem, optimizer, n):
    for _ in range(n):
        problem.run()
        clip_grad_norm(optimizer.gradients, 1.0)
        optimizer.step()


@given(problems(dtype="float32"), OPTIMIZERS, st.sampled_from([float, np.float64]))
def test_training_keeps_float32(problem, kind, number):
    "After steps of an optimiser: parameters, gradients, logits and all that it remembers are float32, and the parameters still its views."
    name, options = kind
    optimizer = make_optimizer(name, problem.model, lr=number(1e-3), **options)
    train_steps(problem, optimizer, 2)
    arrays = problem.model.get_parameters() | {f"state {n}": a for n, a in optimizer.state_dict().items() if n != "steps"} | problem.run()
    wrong = {n: a.dtype for n, a in arrays.items() if isinstance(a, np.ndarray) and a.dtype != np.float32}
    assert not wrong, f"not float32: {wrong}"
    assert all(np.shares_memory(p.data, optimizer.values) and np.shares_memory(p.grad, optimizer.gradients)
               for p in problem.model.named_parameters().values()), "a parameter has left the optimiser's vector"


# Random numbers

def global_state():
    "Where the global generators of NumPy and of Python stand."
    kind, keys, *rest = np.random.get_state()
    return kind, keys.tobytes(), *rest, random.getstate()


def under_global_seed(seed, call):
    "What a call returns after the global generators were seeded; fails if it moves them."
    np.random.seed(seed)
    random.seed(seed)
    before = global_state()
    result = call()
    assert global_state() == before, "global random state was written"
    return result


@layers(*LAYERS)
@few
@given(case=cases(p=0.3))
def test_layers_neither_read_nor_write_global_random_state(name, case):
    "Whatever the global seeds, a layer built with a seed gives the same bits, dropout included, and leaves them alone."
    def call():
        layer, inputs = case.build(name)
        return run(layer, inputs, 0)

    same_bits(under_global_seed(1, call), under_global_seed(2, call))


@settings(max_examples=40)
@given(models(pad_id=0), OPTIMIZERS, seeds)
def test_training_and_decoding_neither_read_nor_write_global_random_state(model, kind, seed):
    "The same for batches, an optimiser's step and decoding."
    start = model.get_parameters()

    def call():
        task = get_task("reverse", max_len=5)
        task.alphabet = model.tokenizer.characters
        model.set_parameters(start)
        batch = next(batches(task, model.tokenizer, 3, seed))
        train_steps(Problem(model, *batch, 0.1, seed), make_optimizer(kind[0], model, lr=0.01, **kind[1]), 1)
        return model.get_parameters() | {"answers": predict(model, ["ab", "c"], 3), **batch._asdict()}

    same_bits(under_global_seed(1, call), under_global_seed(2, call))


@layers("linear", "embedding", "learned positions", "feed-forward", "self-attention", "encoder", "decoder", "projection", "transformer")
@settings(max_examples=3)
@given(case=cases())
def test_no_seed_means_fresh_randomness(name, case):
    "With seed None two layers differ, even under the same global seed, which stays as it is."
    a, b = (under_global_seed(1, lambda: LAYERS[name](replace(case, seed=None).start())[0].get_parameters()) for _ in range(2))
    assert any(not np.array_equal(a[n], b[n]) for n in a), "the same parameters twice"


# Modes

@layers(*LAYERS)
@few
@given(case=cases())
def test_eval_equals_train_without_dropout(name, case):
    "Eval mode gives the bits that train mode gives at dropout 0, and keeps nothing for backward."
    layer, inputs = case.build(name)
    without, _ = replace(case, p=0.0).build(name)
    expected = without.train()(*inputs)
    state = get_random_state(layer)
    same_bits({"output": layer.eval()(*inputs)}, {"output": expected}, "eval mode")
    assert get_random_state(layer) == state, "eval mode drew random numbers"
    with pytest.raises(RuntimeError, match="nothing is saved"):
        layer.backward(upstream(expected, 0))


@given(cases())
def test_dropout_sends_back_through_what_it_let_through(case):
    "Dropout multiplies: the input as upstream gradient comes back as the output was; without dropout it is the identity."
    layer, (x,) = case.build("dropout")
    result = run(layer, (x,), x)
    same_bits({"dx": result["gradient of input 0"]}, {"dx": result["output"]})
    if not case.p:
        same_bits({"y": result["output"]}, {"y": x}, "dropout 0")


# Parameters

WITH_PARAMETERS = ("linear", "embedding", "learned positions", "layer norm", "feed-forward", "projection", "self-attention", "encoder", "decoder",
                   "transformer")


@layers(*WITH_PARAMETERS)
@few
@given(case=cases(), flat=st.booleans())
def test_get_set_get_is_the_identity(name, case, flat):
    "Reading, writing and reading again gives the same bits, before and after an optimiser laid the parameters into one vector; all are copies."
    layer, _ = case.build(name)
    if flat:
        make_optimizer("sgd", layer)
    first = layer.get_parameters()
    expected = {n: a.copy() for n, a in first.items()}
    layer.set_parameters(first)
    for values in first, layer.get_parameters():
        for a in values.values():
            a += 1  # changes only what is the caller's
    same_bits(layer.get_parameters(), expected, "read again")


@given(problems(), st.booleans())
def test_parameters_carry_the_whole_model(problem, flat):
    "Set into a model of another seed, they make it the same: logits, loss and gradients, with tied tables and in one flat vector too."
    other = Transformer(problem.model.config, seed=problem.seed + 1)
    if flat:
        make_optimizer("adam", other)
    other.set_parameters(problem.model.get_parameters())
    same(replace(problem, model=other).run(), problem.run(), "the other model")


DAMAGES = {
    "missing": lambda v, n: {m: a for m, a in v.items() if m != n},
    "unexpected": lambda v, n: v | {f"{n}.more": v[n]},
    "too long": lambda v, n: v | {n: np.append(v[n], v[n])},
    "one axis more": lambda v, n: v | {n: v[n][None]},
    "one number": lambda v, n: v | {n: 0.5},
    "NaN": lambda v, n: v | {n: v[n] * np.nan},
    "infinite": lambda v, n: v | {n: v[n] - np.inf},
    "complex": lambda v, n: v | {n: v[n] + 1j},
    "boolean": lambda v, n: v | {n: v[n] > 0},
    "text": lambda v, n: v | {n: v[n].astype(str)},
    "ragged": lambda v, n: v | {n: [[1.0], [1.0, 2.0]]},
    "None": lambda v, n: v | {n: None},
    "a list": lambda v, n: list(v.values()),
    "nothing": lambda v, n: {},
}


@pytest.mark.parametrize("damage", DAMAGES)
@few
@given(case=cases(), name=st.sampled_from(WITH_PARAMETERS), data=st.data())
def test_a_failed_set_parameters_changes_nothing(damage, case, name, data):
    "One bad entry among good ones that all differ from the present: an error that names it, and not a bit has changed."
    layer, inputs = case.build(name)
    run(layer, inputs, 0)
    before = layer.get_parameters(), layer.get_gradients()
    entry = data.draw(st.sampled_from(sorted(before[0])), "entry")
    with pytest.raises((ValueError, TypeError), match="nothing was changed|a dict of name") as error:
        layer.set_parameters(DAMAGES[damage]({n: a + 1 for n, a in before[0].items()}, entry))
    assert damage == "a list" or entry in str(error.value), f"the message does not name {entry!r}: {error.value}"
    same_bits(layer.get_parameters(), before[0], "parameter")
    same_bits(layer.get_gradients(), before[1], "gradient")


@pytest.mark.parametrize("damage", DAMAGES)
@few
@given(case=cases(), kind=OPTIMIZERS, data=st.data())
def test_a_failed_load_of_an_optimiser_changes_nothing(damage, case, kind, data):
    "The same for what an optimiser remembers, the number of its steps included."
    layer, inputs = case.build("linear")
    optimizer = make_optimizer(kind[0], layer, **kind[1])
    run(layer, inputs, 0)
    optimizer.step()
    before = optimizer.state_dict()
    entry = data.draw(st.sampled_from(sorted(before)), "entry")
    with pytest.raises((ValueError, TypeError), match="nothing was changed|a dict of name"):
        optimizer.load_state_dict(DAMAGES[damage]({n: a + 1 for n, a in before.items()}, entry))
    same_bits(optimizer.state_dict(), before, "state")


# Backward

@layers(*LAYERS)
@few
@given(case=cases(), a=st.floats(-3, 3), b=st.floats(-3, 3))
def test_backward_is_linear_in_the_upstream_gradient(name, case, a, b):
    "backward(a·u + b·v) = a·backward(u) + b·backward(v), for inputs and parameters, under the same dropout."
    layer, inputs = case.build(name)
    y = run(layer, inputs, 0)["output"]
    u, v = upstream(y, 1), upstream(y, 2)
    of_u, of_v, of_both = (gradients(run(layer, inputs, dy)) for dy in (u, v, a * u + b * v))
    same(of_both, {n: a * of_u[n] + b * of_v[n] for n in of_u}, "of the sum")


@layers(*LAYERS)
@few
@given(case=cases())
def test_a_zero_upstream_gradient_gives_zero_gradients(name, case):
    "Nothing comes from nothing: every gradient of a zero is exactly 0."
    layer, inputs = case.build(name)
    for name, g in gradients(run(layer, inputs, 0 * upstream(run(layer, inputs, 0)["output"], 0))).items():
        zero(g, name)


@layers(*LAYERS)
@few
@given(case=cases(p=0.0))
def test_gradients_are_added_to_what_is_there(name, case):
    "Two passes without zero_grad in between: the sum of their parameter gradients; input gradients stand for themselves."
    layer, inputs = case.build(name)
    first, second = gradients(run(layer, inputs, 1)), gradients(run(layer, inputs, 2))
    run(layer, inputs, 1)
    both = backward(layer, upstream(layer(*inputs), 2))
    same(both, {n: second[n] + (0 if n.startswith("gradient of input") else first[n]) for n in both}, "after two passes")


# Looking and decoding

@given(problems())
def test_the_stages_end_in_the_logits(problem):
    "The guided forward pass computes what the model computes, bit for bit."
    last = forward_stages(problem.model, problem.source, problem.target_in)[-1].value
    same_bits({"logits": last}, {"logits": problem.model.eval()(problem.source, problem.target_in)})


@st.composite
def readers(draw):
    "A model with a tokenizer, and texts for it, the empty one too."
    model = draw(models(pad_id=0))
    if model.projection.b:
        model.projection.b.data[model.tokenizer.eos_id] += draw(st.integers(0, 3))  # so that some stop early
    return model, draw(st.lists(st.text(model.tokenizer.characters, max_size=5), min_size=2, max_size=4))


@given(problems(pad_id=0), st.data())
def test_cached_decoding_equals_the_whole_forward(problem, data):
    "Target tokens fed in pieces of any length, with caches and offsets: the logits of one pass over all."
    model = problem.model.eval()
    target = problem.rng.integers(0, model.config.vocab_size, problem.target_in.shape)
    mask, T = padding_mask(problem.source), target.shape[1]
    memory = model.encode(problem.source, mask)
    cuts = sorted({0, T, *data.draw(st.lists(st.integers(0, T), max_size=T), "cuts")})
    caches = model.decoder.make_caches()
    pieces = [model.decode(target[:, a:b], memory, causal_mask(b)[:, :, a:], mask, caches, a) for a, b in zip(cuts, cuts[1:])]
    same(np.concatenate(pieces, 1), model.decode(target, memory, causal_mask(T), mask), f"in pieces {cuts}")


def slow_greedy(model, source, max_len):
    "Greedy decoding of one sequence without a cache: the whole model again for every token."
    ids, written = model.tokenizer, [model.tokenizer.sos_id]
    mask = padding_mask(source)
    while len(written) <= max_len and written[-1] != ids.eos_id:
        logits = model(source, np.array([written]), Masks(mask, causal_mask(len(written)), mask))[0, -1]
        logits[[ids.pad_id, ids.sos_id]] = -np.inf  # never written
        written.append(int(logits.argmax()))
    return written[1:] + [ids.pad_id] * (max_len + 1 - len(written))


@given(readers(), st.integers(1, MAX_LEN))
def test_greedy_decoding_equals_the_slow_way(reader, max_len):
    "A batch decoded with caches, from which finished sequences drop out: what each sequence alone gives without a cache."
    model, texts = reader
    source = model.tokenizer.pad([model.tokenizer.encode(t) for t in texts])
    written = greedy_decode(model, source, max_len)
    expected = [slow_greedy(model.eval(), row[None], max_len) for row in source]
    assert written.tolist() == expected


@given(readers(), st.none() | st.integers(1, MAX_LEN), st.integers(1, 5))
def test_answers_do_not_depend_on_the_company(reader, max_len, batch_size):
    "Texts together, in any order and in batches of any size: the answers that each gets alone."
    model, texts = reader
    alone = [predict(model, [t], max_len)[0] for t in texts]
    assert predict(model, texts, max_len, batch_size) == alone
    assert predict(model, texts[::-1], max_len) == alone[::-1]


# Files and states

@pytest.fixture(scope="module")
def folder(tmp_path_factory): return tmp_path_factory.mktemp("models")


@settings(max_examples=40)
@given(problem=problems(pad_id=0) | problems(pad_id=0, dtype="float32") | problems())
def test_saving_and_loading_is_the_identity(folder, problem):
    "A loaded model has the same parameters, configuration, tokenizer and logits, is in eval mode, and writes the same bytes again."
    model, a, b = problem.model, folder / "a.safetensors", folder / "b.safetensors"
    save_model(model, a)
    loaded = load_model(a)
    same_bits(loaded.get_parameters(), model.get_parameters(), "parameter")
    assert (loaded.config, loaded.tokenizer) == (model.config, model.tokenizer)
    assert not any(layer.training for _, layer in loaded.named_layers()), "not in eval mode"
    same_bits(replace(problem, model=loaded).run(), problem.run(), "loaded")
    save_model(loaded, b)
    assert a.read_bytes() == b.read_bytes()


@given(problems(dtype="float32") | problems(), OPTIMIZERS)
def test_an_optimiser_put_back_goes_on_the_same(problem, kind):
    "Parameters and state into another model and optimiser: the next steps agree bit for bit."
    name, options = kind
    first = make_optimizer(name, problem.model, lr=0.01, **options)
    train_steps(problem, first, 2)
    other = replace(problem, model=Transformer(problem.model.config, seed=problem.seed + 1))
    second = make_optimizer(name, other.model, lr=0.01, **options)
    other.model.set_parameters(problem.model.get_parameters())
    second.load_state_dict(first.state_dict())
    for p, optimizer in (problem, first), (other, second):
        train_steps(p, optimizer, 2)
    same_bits(other.model.get_parameters(), problem.model.get_parameters(), "parameter")
    same_bits(second.state_dict(), first.state_dict(), "state")


# Text

@st.composite
def tokenized(draw):
    "A tokenizer of any characters, and texts in them."
    characters = draw(st.text(min_size=1, max_size=20) | st.text("aAbB <>eos\n", min_size=1, max_size=20))
    return CharTokenizer(characters, draw(st.booleans())), draw(st.lists(st.text(characters, max_size=8), min_size=1, max_size=4))


@given(tokenized())
def test_encode_then_decode_is_the_identity(tokenized):
    "Any text comes back, alone and from a padded batch; one id per character, then `<eos>`."
    tokenizer, texts = tokenized
    rows = [tokenizer.encode(t) for t in texts]
    specials = {tokenizer.pad_id, tokenizer.sos_id, tokenizer.eos_id}
    assert all(len(r) == len(t) + 1 and r[-1] == tokenizer.eos_id and not specials & set(r[:-1]) for r, t in zip(rows, texts))
    assert [tokenizer.decode(r) for r in rows] == texts
    assert [tokenizer.decode(r) for r in tokenizer.pad(rows)] == texts
    assert eval(repr(tokenizer)) == tokenizer


@given(tokenized(), st.integers(1, 9))
def test_truncation_cuts_the_end(tokenized, max_len):
    "Cut to a length, a text keeps its beginning and its `<eos>`."
    tokenizer, texts = tokenized
    for text in texts:
        ids = tokenizer.encode(text, max_len, truncate=True)
        assert ids[-1] == tokenizer.eos_id and tokenizer.decode(ids) == text[:max_len - 1]


@given(tokenized())
def test_the_decoder_reads_the_target_one_step_late(tokenized):
    "A batch holds whole texts: the target's row is what was to be written, and what is read is `<sos>` and the same text without `<eos>`."
    tokenizer, texts = tokenized
    batch = make_batch([(t, t[::-1]) for t in texts], tokenizer)
    width = max(map(len, texts)) + 1
    row = lambda ids: ids + [tokenizer.pad_id] * (width - len(ids))
    ids = lambda text: tokenizer.encode(text)[:-1]
    assert batch.source.tolist() == [row(ids(t) + [tokenizer.eos_id]) for t in texts]
    assert batch.target_out.tolist() == [row(ids(t[::-1]) + [tokenizer.eos_id]) for t in texts]
    assert batch.target_in.tolist() == [row([tokenizer.sos_id] + ids(t[::-1])) for t in texts]


# The step

@pytest.mark.parametrize("name", ["constant", "inverse_sqrt", "warmup_cosine"])
@given(lr=st.floats(1e-6, 10), warmup=st.integers(1, 60), steps=st.integers(1, 200), step=st.integers(1, 400))
def test_schedules_stay_between_zero_and_the_peak(name, lr, warmup, steps, step):
    "At every step 0 ≤ rate ≤ peak; it rises during the warmup, reaches the peak at its end, and never rises after it."
    rate = make_schedule(name, lr, warmup, steps)
    assert 0 <= rate(step) <= lr * (1 + 1e-15)
    assert rate(warmup) == pytest.approx(lr, rel=1e-15)
    assert rate(step + 1) >= rate(step) if step < warmup else rate(step + 1) <= rate(step)


@given(st.integers(1, 20), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), seeds, st.sampled_from([np.float32, np.float64]))
def test_clipping_only_shortens(n, size, max_norm, seed, dtype):
    "The gradient is never longer than allowed, keeps its direction, and if short enough its bits; the norm before is returned."
    before = (size * np.random.default_rng(seed).normal(size=n)).astype(dtype)
    after = before.copy()
    norm = clip_grad_norm(after, max_norm)
    tol = 1e-5 if dtype == np.float32 else 1e-12
    assert norm == pytest.approx(np.linalg.norm(before.astype(np.float64)), rel=tol)
    assert np.linalg.norm(after) <= max_norm * (1 + tol)
    if norm <= max_norm:
        same_bits({"g": after}, {"g": before})
    else:
        same(after / np.linalg.norm(after), before / norm, "direction", tol)
