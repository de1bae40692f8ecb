"Backward against central differences in float64, for every layer, block and whole models, in the cases that break code."
import numpy as np
import pytest

from transformer_nb.attention import MultiHeadAttention, causal_mask, padding_mask
from transformer_nb.foundations import BaseLayer, check_gradients
from transformer_nb.layers import (GELU, Dropout, FeedForward, InputEmbedding, LayerNorm, Linear, LogSoftmax, PositionalEncoding, ReLU,
                                   ResidualConnection, Softmax)
from transformer_nb.learning import CrossEntropyLoss
from transformer_nb.model import Decoder, DecoderBlock, Encoder, EncoderBlock, Projection, Transformer, TransformerConfig

B, T, S, D, F, V = 2, 3, 5, 8, 12, 11
SHAPES = [(B, T, D), (1, T, D), (B, 1, D), (1, 1, D)]  # batch 1 and length 1 too
IDS = np.array([[3, 4, 5, 2, 0], [0, 0, 0, 0, 0]])  # one row padded at the end, one fully padded


class Residual(BaseLayer):
    "A residual connection around a linear map."

    def __init__(self, norm_first):
        self.residual, self.linear = ResidualConnection(D, norm_first, 0.3, seed=0), Linear(D, D, seed=1)

    def forward(self, x):
        return self.residual(x, self.linear)

    def backward(self, dy):
        return self.residual.backward(dy, self.linear.backward)


class WithLoss(BaseLayer):
    "A model and its loss: what training differentiates."

    def __init__(self, model, label_smoothing):
        self.model, self.loss = model, CrossEntropyLoss(0, label_smoothing)

    def forward(self, source, target_in, target_out):
        return self.loss(self.model(source, target_in), target_out)

    def backward(self, dloss):
        self.model.backward(self.loss.backward(dloss))


def shake(model):
    "Parameters of size 1: a fresh model's attention is so even that its gradients drown in the rounding of central differences."
    rng = np.random.default_rng(5)
    model.set_parameters({n: p + rng.normal(0, 0.5, p.shape) for n, p in model.get_parameters().items()})


LAYERS = {
    "linear": lambda: Linear(D, F, seed=0),
    "linear without bias": lambda: Linear(D, F, bias=False, seed=0),
    "relu": ReLU,
    "gelu": GELU,
    "gelu tanh": lambda: GELU("tanh"),
    "softmax": Softmax,
    "log-softmax": LogSoftmax,
    "positions": lambda: PositionalEncoding(D),
    "learned positions": lambda: PositionalEncoding(D, learned=True, max_len=T, seed=0),
    "dropout": lambda: Dropout(0.4, seed=0),
    "layer norm": lambda: LayerNorm(D),
    "layer norm without bias": lambda: LayerNorm(D, bias=False),
    "pre-norm residual": lambda: Residual(True),
    "post-norm residual": lambda: Residual(False),
    "feed-forward": lambda: FeedForward(D, F, dropout=0.2, seed=0),
    "feed-forward gelu": lambda: FeedForward(D, F, "gelu", seed=0),
    "projection": lambda: Projection(D, V, seed=0),
    "self-attention": lambda: MultiHeadAttention(D, 2, seed=0),
    "self-attention with dropout": lambda: MultiHeadAttention(D, 2, dropout=0.3, seed=0),
    "encoder": lambda: Encoder(2, D, 2, F, dropout=0.2, seed=0),
    "post-norm encoder": lambda: Encoder(2, D, 2, F, norm_first=False, seed=0),
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, shape):
    check_gradients(LAYERS[name](), np.random.default_rng(1).normal(size=shape))


@pytest.mark.parametrize("ids", [np.array([[1, 2, 2], [2, 5, 1]]), np.array([[3]])], ids=["repeated", "single"])
def test_embedding(ids):
    check_gradients(InputEmbedding(V, D, padding_idx=0, seed=0), ids)


def test_masked_softmax():
    rng = np.random.default_rng(1)
    mask = rng.random((B, T, S)) < 0.5
    mask[0, 0] = False
    check_gradients(Softmax(), rng.normal(size=(B, T, S)), mask)


@pytest.mark.parametrize("t,s", [(T, S), (1, S), (T, 1), (1, 1)])
@pytest.mark.parametrize("block", ["attention", "decoder block", "post-norm decoder block", "decoder"])
def test_two_inputs_of_unequal_length_with_masks(block, t, s):
    layer = {
        "attention": lambda: MultiHeadAttention(D, 2, dropout=0.2, seed=0),
        "decoder block": lambda: DecoderBlock(D, 2, F, dropout=0.2, seed=0),
        "post-norm decoder block": lambda: DecoderBlock(D, 2, F, norm_first=False, seed=0),
        "decoder": lambda: Decoder(2, D, 2, F, seed=0),
    }[block]()
    rng = np.random.default_rng(2)
    x, memory, mask = rng.normal(size=(B, t, D)), rng.normal(size=(B, s, D)), padding_mask(IDS[:, -s:])
    masks = (mask,) if block == "attention" else (causal_mask(t), mask)
    check_gradients(layer, x, memory, *masks)


@pytest.mark.parametrize("norm_first", [True, False])
def test_encoder_block_with_a_fully_padded_row(norm_first):
    x = np.random.default_rng(3).normal(size=(B, S, D))
    check_gradients(EncoderBlock(D, 2, F, norm_first=norm_first, seed=0), x, padding_mask(IDS))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss(smoothing):
    check_gradients(CrossEntropyLoss(0, smoothing), np.random.default_rng(4).normal(size=(B, T, V)), targets=np.array([[1, 0, 2], [3, 4, 0]]))


SWITCHES = {
    "default": {},
    "post-norm": dict(norm_first=False),
    "tied": dict(tie_embeddings=True),
    "post-norm tied": dict(norm_first=False, tie_embeddings=True),
    "gelu without bias": dict(activation="gelu", bias=False),
    "learned positions, all dropouts": dict(learned_positions=True, max_len=S, dropout=0.1, attention_dropout=0.1, activation_dropout=0.1),
}


@pytest.mark.parametrize("switches", SWITCHES)
def test_whole_model(switches):
    model = Transformer(TransformerConfig(V, D, 2, 1, 2, D, **SWITCHES[switches]), seed=0)
    source, target_in, target_out = IDS, np.array([[1, 6, 7], [1, 8, 0]]), np.array([[6, 7, 2], [8, 2, 0]])
    shake(model)
    check_gradients(WithLoss(model, 0.1), source, target_in, target_out)


def test_batch_one_and_length_one():
    model = Transformer(TransformerConfig(V, D, 2, 1, 1, D), seed=0)
    shake(model)
    check_gradients(WithLoss(model, 0.0), np.array([[3]]), np.array([[1]]), np.array([[2]]))
