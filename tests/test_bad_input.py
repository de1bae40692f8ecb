"""Wrong uses of the whole package: each raises the documented exception, says what was given and what is allowed, and leaves everything as it was.

The tables below are the test; the machinery stands at the end. A row is (what is wrong, call of the world `w`, exception, parts of its message).
The exception's class must be exactly the one of the row. Before and after each row everything that the world holds is compared: parameters, gradients,
modes, random streams, optimisers, arrays, files, NumPy's and Python's global random state, open figures and the handler of Ctrl-C. Warnings are errors.
"""
import contextlib
import errno
import json
import os
import pickle
import random
import shlex
import shutil
import signal
import string
import subprocess
import sys
import tempfile
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from safetensors.numpy import save

from transformer_nb import cli
from transformer_nb.attention import *
from transformer_nb.experiments import *
from transformer_nb.foundations import *
from transformer_nb.layers import *
from transformer_nb.learning import *
from transformer_nb.model import *
from transformer_nb.proof import from_torch

pytestmark = pytest.mark.filterwarnings("error")

AxisError = np.exceptions.AxisError  # NumPy's own ValueError for an axis that an array does not have
TINY = dict(steps=4, eval_every=2, eval_size=2, batch_size=2, d_model=8, nhead=2, num_encoder_layers=1, num_decoder_layers=1, dim_feedforward=8, dropout=0.1, max_len=4)


def a(*shape):
    "An array of floats, not all alike."
    return np.linspace(-1, 1, int(np.prod(shape))).reshape(shape)


def ones(*shape):
    "A mask that hides nothing."
    return np.ones(shape, dtype=bool)


def after_forward(layer, inputs, dy):
    "One forward, then a backward of the wrong gradient."
    layer(*inputs)
    layer.backward(dy)


def with_linear(**changes):
    "Parameters for `w.linear`, some of them wrong."
    return lambda w: w.linear.set_parameters(w.linear.get_parameters() | changes)


def with_adam(**changes):
    "A state for `w.adam`, some of it wrong."
    return lambda w: w.adam.load_state_dict(w.adam.state_dict() | changes)


def config(**changes):
    return lambda w: TransformerConfig(**dict(vocab_size=5) | changes)


def training(**changes):
    return lambda w: TrainingConfig(**changes)


def stream_state(**changes):
    "Dropout's random state, some of it wrong."
    return lambda w: set_random_state(w.dropout, {"": get_random_state(w.dropout)[""] | changes})


# What Python is asked

FOUNDATIONS = [
    ("parameter of integers", lambda w: Parameter([1, 2]), TypeError, "int64", "float type"),
    ("parameter of text", lambda w: Parameter("W"), TypeError, "<U1", "float type"),
    ("parameter of complex numbers", lambda w: Parameter(np.zeros(2, complex)), TypeError, "complex128", "float type"),
    ("seed below 0", lambda w: seed_sequence(-1), ValueError, "got -1", "≥ 0"),
    ("seed that is a float", lambda w: seed_sequence(1.5), TypeError, "got 1.5 of type float", "int ≥ 0, a SeedSequence, a Generator or None"),
    ("seed that is text", lambda w: make_rng("7"), TypeError, "got '7' of type str", "int ≥ 0"),
    ("seed that is a bool", lambda w: make_rng(True), TypeError, "got True of type bool", "int ≥ 0"),
    ("seed that is a list", lambda w: spawn_seeds([1, 2], 3), TypeError, "got [1, 2] of type list", "int ≥ 0"),
    ("seed of NumPy's old kind", lambda w: make_rng(np.random.RandomState(0)), TypeError, "RandomState", "a Generator"),
    ("a layer without forward", lambda w: BaseLayer(), TypeError, "abstract", "backward", "forward"),
    ("a mode that is text", lambda w: w.linear.train("eval"), TypeError, "Linear.train", "mode='eval'", "True or False"),
    ("a layer turned into nothing", lambda w: w.linear.astype(None), TypeError, "got None", "a float type"),
    ("parameters that are None", lambda w: w.linear.set_parameters(None), TypeError, "Linear.set_parameters", "NoneType", "a dict"),
    ("parameters in a list", lambda w: w.linear.set_parameters([a(3, 4), a(4)]), TypeError, "list", "a dict"),
    ("parameters missing", lambda w: w.linear.set_parameters({"W": a(3, 4)}), ValueError, "missing 'b'"),
    ("all parameters missing", lambda w: w.model.set_parameters({}), ValueError, "missing 'source_embedding.E'", "missing 'projection.b'"),
    ("a parameter too many", with_linear(c=a(4)), ValueError, "unexpected 'c'"),
    ("a parameter of the wrong shape", with_linear(W=a(4, 3)), ValueError, "'W' has shape (4, 3)", "expected (3, 4)"),
    ("a parameter that would broadcast", with_linear(b=a(1)), ValueError, "'b' has shape (1,)", "expected (4,)"),
    ("a parameter with NaN", with_linear(W=np.full((3, 4), np.nan)), ValueError, "'W' has values that are not finite"),
    ("a parameter too large for float32", with_linear(W=np.full((3, 4), 1e300)), ValueError, "'W' has values that are not finite in float32"),
    ("a parameter of text", with_linear(W=np.full((3, 4), "x")), ValueError, "'W' is not numeric", "<U1"),
    ("a parameter of bools", with_linear(b=ones(4)), ValueError, "'b' is not numeric", "bool"),
    ("a parameter that is None", with_linear(b=None), ValueError, "'b' is not numeric", "object"),
    ("a ragged parameter", with_linear(W=[[1], [1, 2]]), ValueError, "'W' is not an array"),
    ("two things wrong at once", with_linear(W=a(3), c=1), ValueError, "'W' has shape (3,)", "unexpected 'c'"),
    ("layer turned into integers", lambda w: w.linear.astype(int), TypeError, "int64", "a float type"),
    ("layer turned into bools", lambda w: w.model.astype(bool), TypeError, "bool", "a float type"),
    ("flattening a layer without parameters", lambda w: flatten_parameters(ReLU()), ValueError, "ReLU has no parameters", "at least one"),
    ("flattening mixed types", lambda w: flatten_parameters(w.mixed), ValueError, "float32", "float64", "exactly one"),
    ("random state that is None", lambda w: set_random_state(w.model, None), TypeError, "NoneType", "a dict"),
    ("random state of another layer", lambda w: set_random_state(w.model, get_random_state(w.dropout)), ValueError, "got streams ['']", "source_dropout"),
    ("random state of nothing", lambda w: set_random_state(w.dropout, {}), ValueError, "got streams []", "['']"),
    ("random state of another generator", stream_state(bit_generator="PCG64"), ValueError, "state must be for a"),
    ("random state of the wrong length", stream_state(state={"state": [1, 2]}), ValueError, "(2,)", "(4,)"),
    ("input of text", lambda w: as_input("abc", 3, np.float32, "here"), TypeError, "here", "<U3", "numbers"),
    ("input that is None", lambda w: as_input(None, 3, np.float32, "here"), TypeError, "here", "object", "numbers"),
    ("input of bools", lambda w: as_input(ones(2, 3), 3, np.float32, "here"), TypeError, "here", "bool", "numbers"),
    ("input of complex numbers", lambda w: as_input(a(2, 3) * 1j, 3, np.float32, "here"), TypeError, "here", "complex128", "numbers"),
    ("ragged input", lambda w: as_input([[1, 2, 3], [1]], 3, np.float32, "here"), ValueError, "here", "not an array"),
    ("input that is one number", lambda w: as_input(1.0, 3, np.float32, "here"), ValueError, "here", "shape ()", "3 features"),
    ("input of another width", lambda w: as_input(a(2, 4), 3, np.float32, "here"), ValueError, "here", "shape (2, 4)", "3 features"),
    ("size of 0", lambda w: check_positive("here", n=0), ValueError, "here: n=0", "at least 1"),
    ("size that is a bool", lambda w: check_positive("here", n=True), TypeError, "here: n=True", "integer ≥ 1"),
    ("size that is a float", lambda w: check_positive("here", n=2.0), TypeError, "here: n=2.0 is a float", "integer ≥ 1"),
    ("comparing shapes that differ", lambda w: check_close(a(2, 1), a(2)), AssertionError, "actual (2, 1)", "expected (2,)"),
    ("comparing complex numbers", lambda w: check_close(1j, 1), TypeError, "complex128", "real numbers"),
    ("comparing text", lambda w: check_close("a", "a"), TypeError, "<U1", "real numbers"),
    ("comparing with NaN", lambda w: check_close([1.0, np.nan], [1.0, np.nan]), AssertionError, "1 of 2 values", "nan"),
    ("an error that does not come", lambda w: check_raises(ValueError, call=lambda: 1), AssertionError, "no ValueError"),
    ("an error with another message", lambda w: check_raises(ValueError, "size", call=lambda: int("x")), AssertionError, "lacks ['size']", "invalid literal"),
    ("numerical gradient of a vector", lambda w: num_grad(lambda x: 2 * x, a(3)), ValueError, "shape (3,)", "one number"),
    ("numerical gradient with a step of 0", lambda w: num_grad(np.sum, a(3), eps=0), ValueError, "eps=0", "above 0"),
    ("numerical gradient with a step of NaN", lambda w: num_grad(np.sum, a(3), eps=np.nan), ValueError, "eps=nan", "above 0"),
    ("gradients of a list", lambda w: gradient_errors(Linear(3, 4), [[1.0, 2.0, 3.0]]), AssertionError, "1 gradients for 0 float inputs", "arrays of floats"),
    ("gradient check on another width", lambda w: check_gradients(w.linear, a(2, 5)), ValueError, "Linear", "(2, 5)", "3 features"),
]

LAYERS = [
    # linear
    ("linear with no input", lambda w: Linear(0, 4), ValueError, "Linear: in_features=0", "at least 1"),
    ("linear with a negative size", lambda w: Linear(3, -4), ValueError, "Linear: out_features=-4", "at least 1"),
    ("linear with a size of text", lambda w: Linear("3", 4), TypeError, "in_features='3' is a str", "integer ≥ 1"),
    ("linear with a size that is a float", lambda w: Linear(3, 4.0), TypeError, "out_features=4.0 is a float", "integer ≥ 1"),
    ("linear with a seed below 0", lambda w: Linear(3, 4, seed=-1), ValueError, "got -1", "≥ 0"),
    ("linear of integers", lambda w: Linear(3, 4, dtype=int), TypeError, "int64", "float type"),
    ("linear of an unknown type", lambda w: Linear(3, 4, dtype="float31"), TypeError, "float31"),
    ("linear on another width", lambda w: w.linear(a(2, 4)), ValueError, "Linear", "(2, 4)", "3 features"),
    ("linear on text", lambda w: w.linear("abc"), TypeError, "Linear", "<U3", "numbers"),
    ("linear on None", lambda w: w.linear(None), TypeError, "Linear", "object", "numbers"),
    ("linear, gradient of another batch", lambda w: after_forward(Linear(3, 4), [a(2, 3)], a(5, 4)), ValueError, "Linear.backward", "(5, 4)", "(2, 4)"),
    ("linear, gradient with its axes swapped", lambda w: after_forward(Linear(3, 4), [a(2, 5, 3)], a(5, 2, 4)), ValueError, "(5, 2, 4)", "(2, 5, 4)"),
    ("linear, gradient that is a list", lambda w: after_forward(Linear(3, 4), [a(1, 3)], [[1.0, 2.0, 3.0, 4.0]]), TypeError, "list", "an array"),
    ("feed-forward, gradient of another width", lambda w: after_forward(FeedForward(4, 6), [a(2, 4)], a(2, 6)), ValueError, "(2, 6)", "(2, 4)"),
    ("initial weights of one axis", lambda w: xavier_uniform(w.rng, (3,)), ValueError, "shape=(3,)", "(D, F)"),
    ("initial weights of size 0", lambda w: xavier_uniform(w.rng, (0, 0)), ValueError, "shape=(0, 0)", "at least 1"),
    # activations
    ("unknown activation", lambda w: make_activation("tanh"), ValueError, "'tanh'", "relu, gelu, gelu_tanh"),
    ("activation in capitals", lambda w: make_activation("ReLU"), ValueError, "'ReLU'", "relu, gelu, gelu_tanh"),
    ("activation that is None", lambda w: make_activation(None), ValueError, "None", "relu, gelu, gelu_tanh"),
    ("GELU of an unknown kind", lambda w: GELU("exact"), ValueError, "'exact'", "'none' and 'tanh'"),
    ("gelu of an unknown kind", lambda w: gelu(a(3), True), ValueError, "True", "'none' and 'tanh'"),
    ("ReLU of text", lambda w: ReLU()("abc"), TypeError, "ReLU", "<U3", "numbers"),
    ("GELU of None", lambda w: GELU()(None), TypeError, "GELU", "object", "numbers"),
    ("ReLU, gradient of another shape", lambda w: after_forward(ReLU(), [a(2, 3)], a(3, 2)), ValueError, "(3,2)", "(2,3)"),
    # softmax
    ("softmax of text", lambda w: softmax("abc"), TypeError, "softmax", "<U3", "numbers"),
    ("softmax of bools", lambda w: softmax(ones(2, 3)), TypeError, "softmax", "bool", "numbers"),
    ("softmax of one number", lambda w: log_softmax(3.0), ValueError, "log_softmax", "3.0", "at least one axis"),
    ("scores checked on their own", lambda w: as_scores(None, "here"), TypeError, "here", "object", "numbers"),
    ("softmax over an axis that is not there", lambda w: softmax(a(2, 3), axis=5), AxisError, "axis 5", "dimension 2"),
    ("log-softmax layer over an axis that is not there", lambda w: LogSoftmax(-3)(a(2, 3)), AxisError, "axis -3", "dimension 2"),
    ("mask of 0 and −inf", lambda w: softmax(a(2, 3), np.full((2, 3), -np.inf)), TypeError, "float64", "boolean", "`mask == 0`"),
    ("mask of 0 and 1", lambda w: Softmax()(a(2, 3), np.ones((2, 3), int)), TypeError, "int64", "boolean", "`mask.astype(bool)`"),
    ("mask of text", lambda w: softmax(a(2, 3), "causal"), TypeError, "<U6", "boolean"),
    ("ragged scores", lambda w: softmax([[1.0, 2.0], [3.0]]), ValueError, "softmax", "not an array"),
    ("ragged mask", lambda w: softmax(a(2, 3), [[True], [True, False]]), ValueError, "mask", "not an array"),
    ("mask of another length", lambda w: softmax(a(2, 3), ones(4)), ValueError, "(4,)", "(2, 3)"),
    ("mask with more axes than the scores", lambda w: softmax(a(2, 3), ones(5, 2, 3)), ValueError, "(5, 2, 3)", "(2, 3)"),
    ("mask that would enlarge the scores", lambda w: check_mask(ones(2, 3), (1, 3)), ValueError, "(2, 3)", "(1, 3)"),
    # embedding
    ("id too large", lambda w: w.embedding([[1, 5]]), ValueError, "InputEmbedding", "id 5 at (0, 1)", "0 to 4"),
    ("id below 0", lambda w: w.embedding([-1]), ValueError, "id -1 at (0,)", "0 to 4"),
    ("ids that are floats", lambda w: w.embedding([1.0, 2.0]), TypeError, "float64", "integers"),
    ("ids that are bools", lambda w: w.embedding([True]), TypeError, "bool", "integers"),
    ("ids that are text", lambda w: w.embedding("apple"), TypeError, "<U5", "integers"),
    ("ids that are None", lambda w: w.embedding(None), TypeError, "object", "integers"),
    ("ids of different lengths", lambda w: w.embedding([[1, 2], [3]]), ValueError, "different lengths", "pad"),
    ("embedding of no tokens", lambda w: InputEmbedding(0, 4), ValueError, "vocab_size=0", "at least 1"),
    ("embedding of no width", lambda w: InputEmbedding(5, 0), ValueError, "d_model=0", "at least 1"),
    ("padding id out of range", lambda w: InputEmbedding(5, 4, padding_idx=5), ValueError, "padding_idx", "id 5", "0 to 4"),
    ("padding id below 0", lambda w: InputEmbedding(5, 4, padding_idx=-1), ValueError, "padding_idx", "id -1", "0 to 4"),
    ("ids checked on their own", lambda w: check_ids([[0, 7]], 7, "here"), ValueError, "here: id 7 at (0, 1)", "0 to 6"),
    ("padding id that is a float", lambda w: InputEmbedding(5, 4, padding_idx=1.5), TypeError, "padding_idx", "float64", "integers"),
    ("initial spread below 0", lambda w: InputEmbedding(5, 4, std=-1), ValueError, "std=-1", "at least 0"),
    ("initial spread of NaN", lambda w: InputEmbedding(5, 4, std=np.nan), ValueError, "std=nan", "finite"),
    ("initial spread of text", lambda w: InputEmbedding(5, 4, std="small"), TypeError, "InputEmbedding: std='small'", "a number"),
    # positional encoding
    ("no positions", lambda w: sinusoidal_positions(0, 4), ValueError, "length=0", "at least 1"),
    ("positions of no width", lambda w: sinusoidal_positions(3, 0), ValueError, "d_model=0", "at least 1"),
    ("positions, a length that is a float", lambda w: sinusoidal_positions(3.0, 4), TypeError, "length=3.0 is a float", "integer ≥ 1"),
    ("learned positions of length 0", lambda w: PositionalEncoding(4, True, max_len=0), ValueError, "max_len=0", "at least 1"),
    ("learned positions, infinite spread", lambda w: PositionalEncoding(4, True, std=np.inf), ValueError, "std=inf", "finite"),
    ("learned positions, spread of None", lambda w: PositionalEncoding(4, True, std=None), TypeError, "std=None", "a number"),
    ("positions on another width", lambda w: w.positions(a(3, 5)), ValueError, "PositionalEncoding", "(3, 5)", "4 features"),
    ("positions on one vector", lambda w: w.positions(a(4)), ValueError, "(4,)", "(..., T, D)"),
    ("offset below 0", lambda w: w.positions(a(3, 4), offset=-1), ValueError, "offset=-1", "at least 0"),
    ("offset that is a float", lambda w: w.positions(a(3, 4), offset=1.5), TypeError, "offset=1.5 is a float", "integer ≥ 0"),
    ("text longer than the learned table", lambda w: w.learned(a(4, 4)), ValueError, "up to 3", "3 rows (max_len)"),
    ("offset behind the learned table", lambda w: w.learned(a(1, 4), offset=3), ValueError, "up to 3", "3 rows (max_len)"),
    # dropout
    ("dropout of everything", lambda w: Dropout(1), ValueError, "Dropout: p=1", "below 1"),
    ("dropout below 0", lambda w: Dropout(-0.1), ValueError, "p=-0.1", "at least 0"),
    ("dropout of NaN", lambda w: Dropout(np.nan), ValueError, "p=nan", "at least 0 and below 1"),
    ("dropout of text", lambda w: Dropout("some"), TypeError, "p='some'", "a number"),
    ("dropout that is a bool", lambda w: Dropout(True), TypeError, "p=True", "a number"),
    ("dropout with a wrong seed", lambda w: Dropout(0.1, "now"), TypeError, "'now'", "int ≥ 0"),
    ("dropout on integers", lambda w: w.dropout(np.array([1, 2])), TypeError, "int64", "a float type"),
    ("dropout on text", lambda w: w.dropout("abc"), TypeError, "<U3", "a float type"),
    ("dropout on None", lambda w: w.dropout(None), TypeError, "object", "a float type"),
    ("dropout mask of zeros only", lambda w: dropout_mask(w.dropout.bits, (2,), 1), ValueError, "dropout_mask: p=1", "below 1"),
    ("dropout mask of integers", lambda w: dropout_mask(w.dropout.bits, (2,), 0.1, int), TypeError, "int64", "a float type"),
    ("dropout, gradient of another shape", lambda w: after_forward(Dropout(0.5), [a(2, 3)], a(2, 4)), ValueError, "(2,4)", "(2,3)"),
    # layer norm
    ("norm of no width", lambda w: LayerNorm(0), ValueError, "d_model=0", "at least 1"),
    ("norm with eps 0", lambda w: LayerNorm(4, 0), ValueError, "eps=0", "above 0"),
    ("norm with eps NaN", lambda w: LayerNorm(4, np.nan), ValueError, "eps=nan", "above 0 and finite"),
    ("norm with eps of text", lambda w: LayerNorm(4, "tiny"), TypeError, "eps='tiny'", "a number"),
    ("norm on another width", lambda w: w.norm(a(3, 5)), ValueError, "LayerNorm", "(3, 5)", "4 features"),
    ("norm, gradient of another batch", lambda w: after_forward(LayerNorm(4), [a(2, 4)], a(3, 4)), ValueError, "(3,4)", "(2,4)"),
    # residual
    ("residual with norm_first of text", lambda w: ResidualConnection(4, "pre"), TypeError, "norm_first='pre'", "True or False"),
    ("residual with dropout 1", lambda w: ResidualConnection(4, dropout=1), ValueError, "p=1", "below 1"),
    ("residual on another width", lambda w: w.residual(a(2, 5), np.tanh), ValueError, "ResidualConnection", "(2, 5)", "4 features"),
    ("residual, sublayer of another width", lambda w: w.residual(a(2, 4), lambda x: x[:, :2]), ValueError, "shape (2, 2)", "shape (2, 4)", "equal"),
    ("residual, sublayer that returns nothing", lambda w: w.residual(a(2, 4), lambda x: None), ValueError, "shape ()", "shape (2, 4)"),
    # feed-forward
    ("feed-forward of no width", lambda w: FeedForward(0, 6), ValueError, "FeedForward: d_model=0", "at least 1"),
    ("feed-forward without hidden features", lambda w: FeedForward(4, 0), ValueError, "FeedForward: dim_feedforward=0", "at least 1"),
    ("feed-forward with an unknown bend", lambda w: FeedForward(4, 6, "swish"), ValueError, "'swish'", "relu, gelu, gelu_tanh"),
    ("feed-forward on another width", lambda w: w.feed_forward(a(2, 5)), ValueError, "(2, 5)", "4 features"),
]

ATTENTION = [
    # masks
    ("padding mask of one sequence", lambda w: padding_mask([1, 2]), ValueError, "(2,)", "(B, S)"),
    ("padding mask of sequences of different lengths", lambda w: padding_mask([[1, 2], [3]]), ValueError, "different lengths", "pad"),
    ("padding mask of floats", lambda w: padding_mask([[1.0, 2.0]]), TypeError, "float64", "integers"),
    ("padding mask of text", lambda w: padding_mask("apple"), TypeError, "<U5", "integers"),
    ("padding id that is None", lambda w: padding_mask([[1, 2]], None), TypeError, "pad_id=None", "an integer"),
    ("causal mask of length 0", lambda w: causal_mask(0), ValueError, "T=0", "at least 1"),
    ("causal mask of a float", lambda w: causal_mask(3.0), TypeError, "T=3.0 is a float", "integer ≥ 1"),
    ("masks for two batch sizes", lambda w: make_masks([[1, 2]], [[1], [2]]), ValueError, "source (1, 2)", "target (2, 1)", "same B"),
    ("masks of floats", lambda w: make_masks([[1.0]], [[1]]), TypeError, "float64", "integers"),
    ("one mask of three", lambda w: Masks(None), TypeError, "'target' and 'memory'"),
    # functions
    ("queries and keys of two widths", lambda w: attention_weights(a(2, 2, 3, 4), a(2, 2, 5, 6)), ValueError, "q (2, 2, 3, 4)", "k (2, 2, 5, 6)", "same B, H and Dh"),
    ("queries without heads", lambda w: attention_weights(a(2, 3, 4), a(2, 3, 4)), ValueError, "q (2, 3, 4)", "(B, H, T, Dh)"),
    ("no keys", lambda w: attention_weights(a(2, 2, 3, 4), a(2, 2, 0, 4)), ValueError, "k (2, 2, 0, 4)", "at least one key"),
    ("queries that are a list", lambda w: attention_weights([[1.0]], a(2, 2, 3, 4)), TypeError, "q is of type list", "array of floats"),
    ("queries that are integers", lambda w: attention_weights(np.ones((2, 2, 3, 4), int), a(2, 2, 3, 4)), TypeError, "q is of type int64", "array of floats"),
    ("attention mask transposed", lambda w: attention_weights(a(2, 2, 3, 4), a(2, 2, 5, 4), ones(5, 3)), ValueError, "(5, 3)", "(2, 2, 3, 5)"),
    ("attention mask of floats", lambda w: attention_weights(a(2, 2, 3, 4), a(2, 2, 5, 4), np.zeros((3, 5))), TypeError, "float64", "boolean"),
    ("weights and values of two lengths", lambda w: mix_values(a(2, 2, 3, 5), a(2, 2, 6, 4)), ValueError, "w (2, 2, 3, 5)", "v (2, 2, 6, 4)", "same B, H and S"),
    ("values that are None", lambda w: mix_values(a(2, 2, 3, 5), None), TypeError, "v is of type NoneType", "array of floats"),
    ("keys and values of two lengths", lambda w: scaled_dot_product_attention(a(2, 2, 3, 4), a(2, 2, 5, 4), a(2, 2, 6, 4)), ValueError, "(2, 2, 3, 5)", "(2, 2, 6, 4)"),
    # heads
    ("heads that do not divide", lambda w: split_heads(a(2, 3, 8), 3), ValueError, "D=8", "nhead=3", "[1, 2, 4, 8]"),
    ("no heads", lambda w: split_heads(a(2, 3, 8), 0), ValueError, "nhead=0", "[1, 2, 4, 8]"),
    ("heads of one sequence", lambda w: split_heads(a(3, 8), 2), ValueError, "(3, 8)", "(B, T, D)"),
    ("merging what is not split", lambda w: merge_heads(a(2, 3, 8)), ValueError, "(2, 3, 8)", "(B, H, T, Dh)"),
    ("attention whose heads do not divide", lambda w: MultiHeadAttention(8, 3), ValueError, "D=8", "nhead=3", "[1, 2, 4, 8]"),
    ("attention without heads", lambda w: MultiHeadAttention(8, 0), ValueError, "nhead=0", "at least 1"),
    ("attention with half a head", lambda w: MultiHeadAttention(8, 0.5), TypeError, "nhead=0.5 is a float", "integer ≥ 1"),
    ("attention with dropout 1", lambda w: MultiHeadAttention(8, 2, dropout=1), ValueError, "p=1", "below 1"),
    ("attention of complex numbers", lambda w: MultiHeadAttention(8, 2, dtype=complex), TypeError, "complex128", "float type"),
    ("attention on another width", lambda w: w.attention(a(2, 3, 7)), ValueError, "MultiHeadAttention", "(2, 3, 7)", "8 features"),
    ("attention on one sequence", lambda w: w.attention(a(3, 8)), ValueError, "x (3, 8)", "(B, T, D)"),
    ("attention on two batch sizes", lambda w: w.attention(a(2, 3, 8), a(3, 4, 8)), ValueError, "x (2, 3, 8)", "memory (3, 4, 8)", "same B"),
    ("attention on a memory of another width", lambda w: w.attention(a(2, 3, 8), a(2, 4, 7)), ValueError, "memory", "(2, 4, 7)", "8 features"),
    ("attention on no positions", lambda w: w.attention(a(2, 0, 8)), ValueError, "(2, 2, 0, 4)", "at least one key"),
    ("attention with a mask of floats", lambda w: w.attention(a(2, 3, 8), mask=np.zeros((3, 3))), TypeError, "float64", "boolean", "`mask == 0`"),
    ("attention with a mask of another length", lambda w: w.attention(a(2, 3, 8), mask=ones(2, 2)), ValueError, "(2, 2)", "(2, 2, 3, 3)"),
    ("attention with a mask by name", lambda w: w.attention(a(2, 3, 8), mask="causal"), TypeError, "<U6", "boolean"),
    ("cache with a mask that forgets it", lambda w: w.attention(a(2, 1, 8), mask=ones(1, 2), cache=w.cache), ValueError, "(1, 2)", "(2, 2, 1, 4)"),
    ("cache of another batch", lambda w: w.attention(a(5, 1, 8), cache=w.cache), ValueError, "size 2", "size 5"),
    ("attention, gradient of another width", lambda w: after_forward(MultiHeadAttention(8, 2), [a(2, 3, 8)], a(2, 3, 7)), ValueError, "MultiHeadAttention.backward", "(2, 3, 7)", "(2, 3, 8)"),
    # pictures
    ("picture of scores", lambda w: attention_heatmap(2 * ones(2, 2).astype(float), "ab", "cd"), ValueError, "weight 2 of query 0 and key 0", "between 0 and 1"),
    ("picture of NaN", lambda w: attention_heatmap(np.full((2, 2), np.nan), "ab", "cd"), ValueError, "weight nan", "between 0 and 1"),
    ("picture with too few labels", lambda w: attention_heatmap(np.ones((2, 3)), "ab", "cd"), ValueError, "(2, 3)", "2 queries and 2 keys"),
    ("picture of many heads at once", lambda w: attention_heatmap(np.ones((4, 2, 2)), "ab", "cd"), ValueError, "(4, 2, 2)", "(T, S)"),
    ("picture of text", lambda w: attention_heatmap("weights", "ab", "cd"), TypeError, "<U7", "numbers"),
    ("pictures of an unknown kind", lambda w: attention_grid(w.model, "ab", "ba", kind="self"), ValueError, "kind='self'", "encoder, decoder, cross"),
    ("a viewer of an unknown kind", lambda w: attention_viewer(w.model, "ab", "ba", "self"), ValueError, "kind='self'", "encoder, decoder, cross"),
    ("a viewer of a layer too many", lambda w: attention_viewer(w.model, "ab", "ba", layer=9), ValueError, "layer=9", "allowed are"),
    ("a viewer of half a head", lambda w: attention_viewer(w.model, "ab", "ba", head=0.5), TypeError, "head=0.5", "an int"),
    ("a viewer of no model", lambda w: attention_viewer(None, "ab", "ba"), TypeError, "NoneType", "attention_maps"),
    ("a viewer as a text file", lambda w: attention_viewer(w.model, "ab", "ba").save(w.folder / "x.txt"), ValueError, "'.txt'", ".html, .png and .svg"),
    ("pictures of an unknown character", lambda w: attention_grid(w.model, "aB", "ba"), ValueError, "'B' at position 1", "known are"),
]

MODEL = [
    # stacks
    ("encoder without blocks", lambda w: Encoder(0, 8, 2, 12), ValueError, "num_layers=0", "at least 1"),
    ("encoder with an unknown setting", lambda w: Encoder(1, 8, 2, 12, depth=3), TypeError, "'depth'"),
    ("encoder block whose heads do not divide", lambda w: EncoderBlock(8, 3, 12), ValueError, "D=8", "nhead=3", "[1, 2, 4, 8]"),
    ("encoder on another width", lambda w: w.encoder(a(2, 3, 7)), ValueError, "(2, 3, 7)", "8 features"),
    ("encoder with a mask of another length", lambda w: w.encoder(a(2, 3, 8), ones(2, 2)), ValueError, "(2, 2)", "(2, 2, 3, 3)"),
    ("encoder with a mask of floats", lambda w: w.encoder(a(2, 3, 8), np.ones((3, 3))), TypeError, "float64", "boolean"),
    ("decoder with half a block", lambda w: Decoder(0.5, 8, 2, 12), TypeError, "num_layers=0.5 is a float", "integer ≥ 1"),
    ("decoder without memory", lambda w: w.decoder(a(2, 3, 8), None), TypeError, "memory", "object", "numbers"),
    ("decoder on a memory of another width", lambda w: w.decoder(a(2, 3, 8), a(2, 4, 7)), ValueError, "memory", "(2, 4, 7)", "8 features"),
    ("decoder with a mask of another length", lambda w: w.decoder(a(2, 3, 8), a(2, 4, 8), ones(4, 4)), ValueError, "(4, 4)", "(2, 2, 3, 3)"),
    ("decoder with too few caches", lambda w: w.decoder(a(2, 3, 8), a(2, 4, 8), caches=[]), ValueError, "0 pairs", "1 blocks", "make_caches"),
    ("projection onto no tokens", lambda w: Projection(8, 0), ValueError, "vocab_size=0", "at least 1"),
    ("projection tied to a copy", lambda w: Projection(4, 5, tied=w.embedding.E.data), TypeError, "ndarray", "Parameter"),
    ("projection tied to another table", lambda w: Projection(4, 6, tied=w.embedding.E), ValueError, "(5, 4)", "(6, 4)"),
    ("projection's gradient with its axes swapped", lambda w: after_forward(Projection(4, 5), [a(2, 3, 4)], a(3, 2, 5)), ValueError, "(3, 2, 5)", "(2, 3, 5)"),
    ("projection of another width", lambda w: w.model.projection(a(2, 7)), ValueError, "Projection", "(2, 7)", "8 features"),
    # configuration
    ("configuration of nothing", lambda w: TransformerConfig(), TypeError, "vocab_size"),
    ("vocabulary of no tokens", config(vocab_size=0), ValueError, "vocab_size=0", "at least 1"),
    ("vocabulary of text", config(vocab_size="abc"), TypeError, "vocab_size='abc' is of type str", "int"),
    ("heads that do not divide the width", config(d_model=6), ValueError, "d_model=6", "nhead=4", "[1, 2, 3, 6]"),
    ("width that is a float", config(d_model=8.0), TypeError, "d_model=8.0 is of type float", "int"),
    ("width that is a bool", config(d_model=True), TypeError, "d_model=True is of type bool", "int"),
    ("no encoder", config(num_encoder_layers=0), ValueError, "num_encoder_layers=0", "at least 1"),
    ("fewer than no decoders", config(num_decoder_layers=-1), ValueError, "num_decoder_layers=-1", "at least 1"),
    ("no hidden features", config(dim_feedforward=0), ValueError, "dim_feedforward=0", "at least 1"),
    ("dropout of 1", config(dropout=1), ValueError, "dropout=1.0", "below 1"),
    ("dropout that is NaN", config(dropout=np.nan), ValueError, "dropout=nan", "at least 0 and below 1"),
    ("dropout of text in a configuration", config(dropout="some"), TypeError, "dropout='some' is of type str", "float"),
    ("attention dropout below 0", config(attention_dropout=-0.5), ValueError, "attention_dropout=-0.5", "at least 0"),
    ("activation dropout of 2", config(activation_dropout=2), ValueError, "activation_dropout=2.0", "below 1"),
    ("activation nobody knows", config(activation="tanh"), ValueError, "activation='tanh'", "relu, gelu, gelu_tanh"),
    ("activation of None", config(activation=None), TypeError, "activation=None", "str"),
    ("eps of 0", config(layer_norm_eps=0), ValueError, "layer_norm_eps=0.0", "above 0"),
    ("eps of infinity", config(layer_norm_eps=np.inf), ValueError, "layer_norm_eps=inf", "finite"),
    ("norm_first of 1", config(norm_first=1), TypeError, "norm_first=1 is of type int", "bool"),
    ("bias of text", config(bias="yes"), TypeError, "bias='yes' is of type str", "bool"),
    ("tie_embeddings of None", config(tie_embeddings=None), TypeError, "tie_embeddings=None", "bool"),
    ("learned_positions of 0", config(learned_positions=0), TypeError, "learned_positions=0", "bool"),
    ("no rows of learned positions", config(max_len=0), ValueError, "max_len=0", "at least 1"),
    ("padding id outside the vocabulary", config(pad_id=5), ValueError, "pad_id=5", "0 to 4"),
    ("half precision", config(dtype="float16"), ValueError, "dtype='float16'", "'float32' and 'float64'"),
    ("type given as a type", config(dtype=np.float32), TypeError, "float32", "str"),
    ("setting nobody knows", config(layers=3), TypeError, "'layers'"),
    ("configuration changed afterwards", lambda w: setattr(w.model.config, "d_model", 16), FrozenInstanceError, "d_model"),
    ("unknown preset", lambda w: preset_config("huge", 5), ValueError, "'huge'", "tiny, small, base, paper"),
    ("preset that is None", lambda w: preset_config(None, 5), ValueError, "None", "tiny, small, base, paper"),
    ("preset with a change that does not fit", lambda w: preset_config("tiny", 5, nhead=5), ValueError, "nhead=5", "[1, 2, 4, 8, 16, 32]"),
    # the whole model
    ("model of a dict", lambda w: Transformer(dict(vocab_size=5)), TypeError, "dict", "TransformerConfig"),
    ("model with another tokenizer", lambda w: Transformer(w.config, CharTokenizer("abc")), ValueError, "6 tokens", "vocab_size=29"),
    ("model with a seed below 0", lambda w: Transformer(w.config, seed=-1), ValueError, "got -1", "≥ 0"),
    ("source id too large", lambda w: w.model([[1, 29]], [[1, 2]]), ValueError, "source", "id 29 at (0, 1)", "0 to 28"),
    ("target id below 0", lambda w: w.model([[1, 2]], [[1, -1]]), ValueError, "target", "id -1 at (0, 1)", "0 to 28"),
    ("source of floats", lambda w: w.model([[1.0, 2.0]], [[1, 2]]), TypeError, "source", "float64", "integers"),
    ("source of text", lambda w: w.model(["apple"], ["elppa"]), TypeError, "source", "<U5", "integers"),
    ("target that is None", lambda w: w.model([[1, 2]], None), TypeError, "target", "object", "integers"),
    ("one sequence without a batch", lambda w: w.model([1, 2], [1, 2]), ValueError, "source (2,)", "(B, S) and (B, T)"),
    ("source and target of two batches", lambda w: w.model([[1, 2]], [[1], [2]]), ValueError, "source (1, 2)", "target (2, 1)", "same B"),
    ("sources of different lengths", lambda w: w.model([[1], [1, 2]], [[1], [2]]), ValueError, "source", "different lengths", "pad"),
    ("empty batch", lambda w: w.model(np.zeros((0, 3), int), np.zeros((0, 3), int)), ValueError, "(0, 3)", "not empty"),
    ("sources of length 0", lambda w: w.model(np.zeros((2, 0), int), [[1], [1]]), ValueError, "(2, 0)", "not empty"),
    ("model with a single mask", lambda w: w.model([[1, 2]], [[1, 2]], ones(2, 2)), TypeError, "ndarray", "Masks(source, target, memory)"),
    ("source longer than the learned positions", lambda w: w.short([[3, 4, 5, 6, 2]], [[1]]), ValueError, "up to 4", "4 rows (max_len)"),
    ("model, gradient of another vocabulary", lambda w: after_forward(w.fresh_model(), [[[1, 2]], [[1, 2]]], a(1, 2, 28)), ValueError, "29", "28"),
    ("encoding an unknown id", lambda w: w.model.encode([[1, 29]]), ValueError, "id 29 at (0, 1)", "0 to 28"),
    ("decoding from before the first position", lambda w: w.model.decode([[1]], a(1, 2, 8), offset=-1), ValueError, "offset=-1", "at least 0"),
    ("attention maps of an unknown character", lambda w: w.model.attention_maps("aB", "ba"), ValueError, "'B' at position 1", "known are"),
    ("attention maps of text without a tokenizer", lambda w: w.bare.attention_maps("ab", "ba"), ValueError, "no tokenizer", "ids"),
    ("attention maps of text and ids", lambda w: w.model.attention_maps("ab", [1, 2]), TypeError, "list", "str"),
    ("attention maps of an unknown id", lambda w: w.model.attention_maps([1, 99], [1]), ValueError, "id 99", "0 to 28"),
    ("stages of an unknown id", lambda w: forward_stages(w.model, [[1, 29]], [[1]]), ValueError, "forward_stages", "id 29 at (0, 1)", "0 to 28"),
    ("stages of two batches", lambda w: forward_stages(w.model, [[1]], [[1], [2]]), ValueError, "(1, 1)", "(2, 1)", "same B"),
]

TEXT_AND_LOSS = [
    # tokenizer
    ("tokenizer of nothing", lambda w: CharTokenizer(""), ValueError, "empty", "at least one"),
    ("tokenizer of a list", lambda w: CharTokenizer(["a", "b"]), TypeError, "list", "str"),
    ("tokenizer with unk as text", lambda w: CharTokenizer("ab", unk="<unk>"), TypeError, "unk='<unk>'", "True or False"),
    ("unknown character", lambda w: w.tokenizer.encode("apPle"), ValueError, "'P' at position 2", "known are"),
    ("text that is a number", lambda w: w.tokenizer.encode(5), TypeError, "int", "str"),
    ("text that is bytes", lambda w: w.tokenizer.encode(b"apple"), TypeError, "bytes", "str"),
    ("text too long", lambda w: w.tokenizer.encode("apple", max_len=4), ValueError, "6 ids", "at most 4", "truncate=True"),
    ("length limit of 0", lambda w: w.tokenizer.encode("apple", max_len=0), ValueError, "max_len=0", "at least 1"),
    ("length limit of text", lambda w: w.tokenizer.encode("apple", max_len="4"), TypeError, "max_len='4' is a str", "integer ≥ 1"),
    ("decoding an id too large", lambda w: w.tokenizer.decode([3, 29]), ValueError, "id 29", "0 to 28"),
    ("decoding an id below 0", lambda w: w.tokenizer.decode([-1]), ValueError, "id -1", "0 to 28"),
    ("decoding floats", lambda w: w.tokenizer.decode([3.0]), TypeError, "float", "integers"),
    ("decoding text", lambda w: w.tokenizer.decode("ab"), TypeError, "str", "integers"),
    ("decoding a batch", lambda w: w.tokenizer.decode([[3, 4]]), TypeError, "list", "one text at a time"),
    ("padding nothing", lambda w: w.tokenizer.pad([]), ValueError, "no texts", "at least one"),
    ("padding one row", lambda w: w.tokenizer.pad([3, 4]), TypeError, "row 0", "list of ids"),
    ("padding text", lambda w: w.tokenizer.pad(["ab"]), TypeError, "row 0 is 'ab'", "list of ids"),
    ("padding floats", lambda w: w.tokenizer.pad([[3], [4.5]]), TypeError, "row 1 is '[4.5]'", "list of ids"),
    # tasks
    ("unknown task", lambda w: get_task("revrese"), ValueError, "'revrese'", "identity, reverse"),
    ("task with an unknown option", lambda w: get_task("reverse", length=3), TypeError, "'length'"),
    ("shortest string of length 0", lambda w: Reverse(0), ValueError, "min_len=0", "at least 1"),
    ("shortest longer than longest", lambda w: Reverse(5, 3), ValueError, "min_len=5", "max_len=3"),
    ("longest string of None", lambda w: Identity(1, None), TypeError, "max_len=None", "integer ≥ 1"),
    ("task without an answer", lambda w: Task(), TypeError, "abstract", "answer"),
    ("no pairs asked for", lambda w: w.trainer.task.sample(w.rng, 0), ValueError, "n=0", "at least 1"),
    ("half a pair asked for", lambda w: w.trainer.task.sample(w.rng, 0.5), TypeError, "n=0.5 is a float", "integer ≥ 1"),
    ("pairs from a seed", lambda w: w.trainer.task.sample(0, 3), TypeError, "rng=0", "Generator", "make_rng"),
    ("pairs from an empty side of the split", lambda w: OneWord().sample(make_rng(0), 1, held_out=True), ValueError, "only 0 were held out", "n=1"),
    ("batch of nothing", lambda w: make_batch([], w.tokenizer), ValueError, "no texts", "at least one"),
    ("batch with an unknown source", lambda w: make_batch([("aB", "x")], w.tokenizer), ValueError, "'B' at position 1", "known are"),
    ("batch with an unknown answer", lambda w: make_batch([("x", "aB")], w.tokenizer), ValueError, "'B' at position 1", "known are"),
    ("batch of numbers", lambda w: make_batch([(1, 2)], w.tokenizer), TypeError, "int", "str"),
    ("batches of size 0", lambda w: batches(w.trainer.task, w.tokenizer, 0), ValueError, "batch_size=0", "at least 1"),
    ("batches of size 2.5", lambda w: batches(w.trainer.task, w.tokenizer, 2.5), TypeError, "batch_size=2.5 is a float", "integer ≥ 1"),
    ("batches from a pool of 0", lambda w: batches(w.trainer.task, w.tokenizer, pool=0), ValueError, "pool=0", "at least 1"),
    ("batches from before the first", lambda w: batches(w.trainer.task, w.tokenizer, start=-1), ValueError, "start=-1", "at least 0"),
    ("batches from text", lambda w: batches(w.trainer.task, w.tokenizer, start="0"), TypeError, "start='0' is a str", "integer ≥ 0"),
    ("batches with a seed below 0", lambda w: batches(w.trainer.task, w.tokenizer, seed=-1), ValueError, "got -1", "≥ 0"),
    ("batches of a task's name", lambda w: batches("reverse", w.tokenizer), TypeError, "str", "a Task", "get_task"),
    ("batches the tokenizer cannot read", lambda w: next(batches(w.trainer.task, CharTokenizer("ab"))), ValueError, "unknown character", "known are 'ab'"),
    # loss
    ("smoothing of 1", lambda w: CrossEntropyLoss(label_smoothing=1), ValueError, "label_smoothing=1", "below 1"),
    ("smoothing below 0", lambda w: CrossEntropyLoss(label_smoothing=-0.1), ValueError, "label_smoothing=-0.1", "at least 0"),
    ("smoothing of NaN", lambda w: CrossEntropyLoss(label_smoothing=np.nan), ValueError, "label_smoothing=nan", "at least 0 and below 1"),
    ("smoothing of text", lambda w: CrossEntropyLoss(label_smoothing="some"), TypeError, "label_smoothing='some'", "a number"),
    ("ignored id that is a float", lambda w: CrossEntropyLoss(0.0), TypeError, "ignore_index=0.0", "an integer"),
    ("ignored id that is None", lambda w: CrossEntropyLoss(None), TypeError, "ignore_index=None", "−1 to ignore nothing"),
    ("target out of range", lambda w: w.loss(a(2, 3), [1, 3]), ValueError, "targets", "id 3 at (1,)", "0 to 2"),
    ("target below 0", lambda w: w.loss(a(2, 3), [1, -1]), ValueError, "targets", "id -1 at (1,)", "0 to 2"),
    ("targets of floats", lambda w: w.loss(a(2, 3), [1.0, 2.0]), TypeError, "targets", "float64", "integers"),
    ("targets too many", lambda w: w.loss(a(2, 3), [1, 2, 1]), ValueError, "targets (3,)", "logits (2, 3)", "(2,) is needed"),
    ("targets in another shape", lambda w: w.loss(a(2, 3, 4), [[1, 2, 3, 1, 2, 3]]), ValueError, "targets (1, 6)", "(2, 3) is needed"),
    ("logits of text", lambda w: w.loss("abc", [1]), TypeError, "CrossEntropyLoss", "<U3", "numbers"),
    ("logits that are one number", lambda w: w.loss(1.0, 0), ValueError, "1.0", "at least one axis"),
]

STEP = [
    # optimisers
    ("optimiser without an update", lambda w: Optimizer(w.linear, 0.1), TypeError, "abstract", "_update"),
    ("optimiser of nothing", lambda w: SGD(ReLU()), ValueError, "ReLU has no parameters", "at least one"),
    ("optimiser of parameters", lambda w: Adam(w.linear.get_parameters()), TypeError, "model is a dict", "a layer or a model"),
    ("optimiser of None", lambda w: AdamW(None), TypeError, "AdamW: model is a NoneType", "a layer or a model"),
    ("rate below 0", lambda w: SGD(w.linear, -1), ValueError, "SGD: lr=-1", "at least 0"),
    ("rate of NaN", lambda w: Adam(w.linear, np.nan), ValueError, "Adam: lr=nan", "at least 0 and finite"),
    ("rate of infinity", lambda w: AdamW(w.linear, np.inf), ValueError, "AdamW: lr=inf", "finite"),
    ("rate of text", lambda w: SGD(w.linear, "fast"), TypeError, "lr='fast'", "a number"),
    ("rate that is a bool", lambda w: SGD(w.linear, True), TypeError, "lr=True", "a number"),
    ("momentum of 1", lambda w: SGD(w.linear, momentum=1), ValueError, "momentum=1", "at least 0 and below 1"),
    ("momentum of None", lambda w: SGD(w.linear, momentum=None), TypeError, "momentum=None", "a number"),
    ("Nesterov without momentum", lambda w: SGD(w.linear, nesterov=True), ValueError, "nesterov=True", "momentum above 0"),
    ("decay below 0", lambda w: AdamW(w.linear, weight_decay=-0.1), ValueError, "weight_decay=-0.1", "at least 0"),
    ("beta of 1", lambda w: Adam(w.linear, betas=(0.9, 1)), ValueError, "betas=1", "below 1"),
    ("beta of text", lambda w: Adam(w.linear, betas=("0.9", 0.99)), TypeError, "betas='0.9'", "a number"),
    ("a single beta", lambda w: Adam(w.linear, betas=0.9), TypeError, "betas=0.9", "a pair"),
    ("three betas", lambda w: Adam(w.linear, betas=(0.9, 0.9, 0.9)), ValueError, "betas=(0.9, 0.9, 0.9)", "a pair"),
    ("Adam's eps below 0", lambda w: Adam(w.linear, eps=-1e-8), ValueError, "eps=-1e-08", "at least 0"),
    ("unknown optimiser", lambda w: make_optimizer("lion", w.linear), ValueError, "'lion'", "sgd, adam, adamw"),
    ("option of another optimiser", lambda w: make_optimizer("sgd", w.linear, eps=1), TypeError, "'eps'"),
    ("step after another optimiser took over", lambda w: w.left_behind.step(), RuntimeError, "Adam.step", "another optimiser", "Make a new optimiser"),
    ("step after a change of type", lambda w: w.retyped.step(), RuntimeError, "SGD.step", "astype", "Make a new optimiser"),
    ("state that is None", lambda w: w.adam.load_state_dict(None), TypeError, "NoneType", "a dict"),
    ("state of nothing", lambda w: w.adam.load_state_dict({}), ValueError, "missing 'steps'", "missing 'mean'", "missing 'square'"),
    ("state of another optimiser", lambda w: w.adam.load_state_dict(SGD(Linear(3, 4)).state_dict()), ValueError, "missing 'mean'", "unexpected 'velocity'"),
    ("state of a smaller model", with_adam(mean=a(3)), ValueError, "'mean' has shape (3,)", "expected (16,)"),
    ("state with NaN", with_adam(square=np.full(16, np.nan)), ValueError, "'square' has values that are not finite"),
    ("state of text", with_adam(square=np.full(16, "x")), ValueError, "'square' is not numeric"),
    ("state after −1 steps", with_adam(mean=a(16), steps=-1), ValueError, "steps=-1", "whole number ≥ 0"),
    ("state after one and a half steps", with_adam(mean=a(16), steps=1.5), ValueError, "steps=1.5", "whole number ≥ 0"),
    ("clipping to 0", lambda w: clip_grad_norm(w.adam.gradients, 0), ValueError, "max_norm=0", "above 0"),
    ("clipping to NaN", lambda w: clip_grad_norm(w.adam.gradients, np.nan), ValueError, "max_norm=nan", "above 0"),
    ("clipping to text", lambda w: clip_grad_norm(w.adam.gradients, "short"), TypeError, "max_norm='short'", "a number"),
    ("clipping a list", lambda w: clip_grad_norm([3.0, 4.0], 1), TypeError, "list", "one vector of floats"),
    ("clipping a matrix", lambda w: clip_grad_norm(a(3, 4), 1), TypeError, "(3, 4)", "one vector of floats"),
    # schedules
    ("unknown schedule", lambda w: make_schedule("linear", 0.1, 2, 9), ValueError, "'linear'", "constant, inverse_sqrt, warmup_cosine"),
    ("constant rate below 0", lambda w: constant(-0.1), ValueError, "constant: lr=-0.1", "at least 0"),
    ("constant rate of None", lambda w: constant(None), TypeError, "constant: lr=None", "a number"),
    ("inverse root of an infinite rate", lambda w: inverse_sqrt(np.inf, 5), ValueError, "lr=inf", "finite"),
    ("inverse root without a rise", lambda w: inverse_sqrt(0.1, 0), ValueError, "warmup=0", "at least 1"),
    ("inverse root with a rise of text", lambda w: inverse_sqrt(0.1, "5"), TypeError, "warmup='5' is a str", "integer ≥ 1"),
    ("cosine with a negative rise", lambda w: warmup_cosine(0.1, -1, 9), ValueError, "warmup=-1", "at least 0"),
    ("cosine with a rise of NaN", lambda w: warmup_cosine(0.1, np.nan, 9), ValueError, "warmup=nan", "finite"),
    ("cosine with a rise of None", lambda w: warmup_cosine(0.1, None, 9), TypeError, "warmup=None", "a number"),
    ("cosine over no steps", lambda w: warmup_cosine(0.1, 2, 0), ValueError, "steps=0", "at least 1"),
    ("cosine of a rate of text", lambda w: warmup_cosine("0.1", 2, 9), TypeError, "lr='0.1'", "a number"),
    ("rate of step 0", lambda w: inverse_sqrt(0.1, 5)(0), ValueError, "inverse_sqrt: step=0", "from 1"),
    ("rate of a step below 0", lambda w: warmup_cosine(0.1, 0, 9)(-1), ValueError, "warmup_cosine: step=-1", "from 1"),
]

TRAINING = [
    # decoding
    ("writing 0 tokens", lambda w: greedy_decode(w.model, [[3, 2]], 0), ValueError, "max_len=0", "at least 1"),
    ("writing half a token", lambda w: greedy_decode(w.model, [[3, 2]], 0.5), TypeError, "max_len=0.5 is a float", "integer ≥ 1"),
    ("reading one sequence without a batch", lambda w: greedy_decode(w.model, [3, 2], 5), ValueError, "(2,)", "(B, S)"),
    ("reading an empty batch", lambda w: greedy_decode(w.model, np.zeros((0, 3), int), 5), ValueError, "(0, 3)", "at least 1"),
    ("reading an unknown id", lambda w: greedy_decode(w.model, [[3, 29]], 5), ValueError, "id 29 at (0, 1)", "0 to 28"),
    ("reading floats", lambda w: greedy_decode(w.model, [[3.5]], 5), TypeError, "float64", "integers"),
    ("writing without a tokenizer", lambda w: greedy_decode(w.bare, [[3, 2]], 5), ValueError, "no tokenizer"),
    ("writing more than the learned positions", lambda w: greedy_decode(w.short, [[3, 2]], 9), ValueError, "up to 4", "4 rows (max_len)"),
    ("answering a str", lambda w: predict(w.model, "apple"), TypeError, "one str", "a list of texts"),
    ("answering numbers", lambda w: predict(w.model, [5]), TypeError, "int", "str"),
    ("answering an unknown character", lambda w: predict(w.model, ["pear", "Fig"]), ValueError, "'F' at position 0", "known are"),
    ("answering in no tokens", lambda w: predict(w.model, ["fig"], 0), ValueError, "max_len=0", "at least 1"),
    ("answering none at a time", lambda w: predict(w.model, ["fig"], batch_size=0), ValueError, "batch_size=0", "at least 1"),
    ("answering without a tokenizer", lambda w: predict(w.bare, ["fig"]), ValueError, "no tokenizer", "pass one"),
    ("answering a text too long for the positions", lambda w: predict(w.short, ["fig", "banana"]), ValueError, "up to", "4 rows (max_len)"),
    ("score of nothing", lambda w: exact_match(w.model, []), ValueError, "no pairs", "at least one"),
    ("score of an unknown character", lambda w: exact_match(w.model, [("Fig", "giF")]), ValueError, "'F' at position 0", "known are"),
    ("lines of an unknown character", lambda w: answer_lines(w.model, [("Fig", "giF")]), ValueError, "'F' at position 0", "known are"),
    ("share of no pairs", lambda w: attention_share(w.model, [], max), ValueError, "no pairs", "at least one"),
    ("share of an unknown character", lambda w: attention_share(w.model, [("Fig", "giF")], max), ValueError, "'F' at position 0", "known are"),
    # how to train
    ("training for 0 steps", training(steps=0), ValueError, "steps=0", "at least 1"),
    ("training for 1.5 steps", training(steps=1.5), TypeError, "steps=1.5 is of type float", "int"),
    ("batches of −3", training(batch_size=-3), ValueError, "batch_size=-3", "at least 1"),
    ("batches of text", training(batch_size="32"), TypeError, "batch_size='32' is of type str", "int"),
    ("training at a negative rate", training(lr=-1), ValueError, "lr=-1", "at least 0"),
    ("training at a rate of NaN", training(lr=np.nan), ValueError, "lr=nan", "finite"),
    ("training at a rate of text", training(lr="fast"), TypeError, "lr='fast' is of type str", "float"),
    ("training with a negative rise", training(warmup=-1), ValueError, "warmup=-1", "at least 0"),
    ("training with half a step of rise", training(warmup=0.5), TypeError, "warmup=0.5 is of type float", "int"),
    ("training by an unknown schedule", training(schedule="linear"), ValueError, "'linear'", "constant, inverse_sqrt, warmup_cosine"),
    ("training by an unknown optimiser", training(optimizer="lion"), ValueError, "'lion'", "sgd, adam, adamw"),
    ("training by no optimiser", training(optimizer=None), TypeError, "optimizer=None", "str"),
    ("training with one beta", training(betas=(0.9,)), ValueError, "betas=(0.9,)", "a pair"),
    ("training with a beta of 2", training(betas=(0.9, 2)), ValueError, "betas=2", "below 1"),
    ("training with betas that are a number", training(betas=0.9), TypeError, "betas=0.9 is of type float", "tuple"),
    ("training with eps below 0", training(eps=-1.0), ValueError, "eps=-1.0", "at least 0"),
    ("training with momentum 2", training(optimizer="sgd", momentum=2), ValueError, "momentum=2.0", "below 1"),
    ("training with Nesterov and no momentum", training(optimizer="sgd", nesterov=True), ValueError, "nesterov=True", "momentum above 0"),
    ("training with Nesterov of text", training(nesterov="yes"), TypeError, "nesterov='yes' is of type str", "bool"),
    ("training with infinite decay", training(weight_decay=np.inf), ValueError, "weight_decay=inf", "finite"),
    ("training with gradients clipped to 0", training(clip_norm=0), ValueError, "clip_norm=0", "above 0"),
    ("training with gradients clipped to None", training(clip_norm=None), TypeError, "clip_norm=None", "float"),
    ("training with smoothing 1", training(label_smoothing=1), ValueError, "label_smoothing=1", "below 1"),
    ("training from a pool of 0", training(pool=0), ValueError, "pool=0", "at least 1"),
    ("evaluating every 0 steps", training(eval_every=0), ValueError, "eval_every=0", "at least 1"),
    ("evaluating on 0 strings", training(eval_size=0), ValueError, "eval_size=0", "at least 1"),
    ("training with a seed below 0", training(seed=-1), ValueError, "got -1", "≥ 0"),
    ("training with a seed of None", training(seed=None), TypeError, "seed=None", "int"),
    ("training with an unknown setting", training(epochs=3), TypeError, "'epochs'"),
    # the trainer
    ("trainer for an unknown task", lambda w: make_trainer("revrese"), ValueError, "'revrese'", "identity, reverse"),
    ("trainer with an unknown setting", lambda w: make_trainer("reverse", d_modle=32), TypeError, "['d_modle']", "known are", "'d_model'"),
    ("trainer with heads that do not divide", lambda w: make_trainer("reverse", d_model=10), ValueError, "d_model=10", "nhead=4", "[1, 2, 5, 10]"),
    ("trainer with more letters than positions", lambda w: make_trainer("reverse", max_len=600, learned_positions=True), ValueError, "601 ids", "512 rows (max_len)"),
    ("trainer without a model", lambda w: Trainer(None, w.trainer.task), TypeError, "model is a NoneType", "a Transformer"),
    ("trainer with a task's name", lambda w: Trainer(w.model, "reverse"), TypeError, "task is a str", "a Task"),
    ("trainer with settings in a dict", lambda w: Trainer(w.model, w.trainer.task, {"steps": 3}), TypeError, "config is a dict", "a TrainingConfig"),
    ("trainer of a model without a tokenizer", lambda w: Trainer(w.bare, w.trainer.task), ValueError, "no tokenizer", "pass one"),
    ("a step without a batch", lambda w: w.trainer.train_step(None), TypeError, "NoneType", "a Batch"),
    ("a step on a tuple", lambda w: w.trainer.train_step(tuple(w.batch)), TypeError, "tuple", "a Batch"),
    ("a step on unknown sources", lambda w: w.trainer.train_step(w.batch._replace(source=w.batch.source + 40)), ValueError, "source: id", "0 to 28"),
    ("a step on unknown targets", lambda w: w.trainer.train_step(w.batch._replace(target_out=w.batch.target_out + 40)), ValueError, "target_out: id", "0 to 28"),
    ("a step on targets of floats", lambda w: w.trainer.train_step(w.batch._replace(target_out=w.batch.target_out / 2)), TypeError, "target_out", "float64", "integers"),
    ("a step on targets cut short", lambda w: w.trainer.train_step(w.batch._replace(target_out=w.batch.target_out[:, 1:])), ValueError, "target_out", "target_in", "one shape"),
    ("a step on half the targets", lambda w: w.trainer.train_step(w.batch._replace(target_in=w.batch.target_in[:1], target_out=w.batch.target_out[:1])), ValueError, "same B"),
    ("training until step 0", lambda w: w.trainer.fit(0, progress=False), ValueError, "until=0", "at least 1"),
    ("training until step −1", lambda w: w.trainer.fit(-1, progress=False), ValueError, "until=-1", "at least 1"),
    ("training until text", lambda w: w.trainer.fit("3", progress=False), TypeError, "until='3' is a str", "integer ≥ 1"),
    ("callbacks that are one function", lambda w: w.trainer.fit(progress=False, callbacks=print), TypeError, "callbacks=", "a list of functions"),
    ("callbacks that are text", lambda w: w.trainer.fit(progress=False, callbacks=["print"]), TypeError, "callbacks=['print']", "a list of functions"),
    ("training into a folder that is not there", lambda w: w.trainer.fit(progress=False, save_to=w.folder / "no" / "state"), FileNotFoundError, "no such folder", "state"),
    ("evaluating 0 strings", lambda w: w.trainer.evaluate(0), ValueError, "n=0", "at least 1"),
    ("evaluating half a string", lambda w: w.trainer.evaluate(0.5), TypeError, "n=0.5 is a float", "integer ≥ 1"),
    ("a loss that explodes", lambda w: w.wild_trainer().fit(progress=False), FloatingPointError, "the loss is", "at step", "smaller lr than"),
    ("history of nothing", lambda w: plot_history([]), ValueError, "empty", "eval_every"),
    # PyTorch's names
    ("a name that PyTorch does not have", lambda w: from_torch({"encoder.layers.0.attention.weight": a(3)}), ValueError, "'encoder.layers.0.attention.weight'", "torch.nn.Transformer"),
    ("a stack that is not three", lambda w: from_torch({"encoder.layers.0.self_attn.in_proj_weight": a(8, 8)}), ValueError, "(8, 8)", "3 equal parts"),
]

BACKWARD = [  # backward without a forward before it
    (type(layer).__name__, lambda w, layer=layer, rest=rest: layer.backward(a(2, 3, 8), *rest), RuntimeError, "nothing is saved", "Call forward in train mode first")
    for layer, *rest in [
        (Linear(4, 8),), (ReLU(),), (GELU(),), (Softmax(),), (LogSoftmax(),), (InputEmbedding(5, 8),), (PositionalEncoding(8),), (Dropout(0.1),), (LayerNorm(8),),
        (ResidualConnection(8, norm_first=False), np.negative), (FeedForward(8, 4),), (MultiHeadAttention(8, 2),), (EncoderBlock(8, 2, 4),), (Encoder(1, 8, 2, 4),),
        (DecoderBlock(8, 2, 4),), (Decoder(1, 8, 2, 4),), (Projection(8, 5),), (CrossEntropyLoss(),), (Transformer(TransformerConfig(5, d_model=8)),),
    ]
] + [
    ("twice", lambda w: after_forward(layer := Linear(3, 4), [a(2, 3)], a(2, 4)) or layer.backward(a(2, 4)), RuntimeError, "Linear.backward", "once after each forward"),
    ("after a forward in eval mode", lambda w: after_forward(Linear(3, 4).eval(), [a(2, 3)], a(2, 4)), RuntimeError, "Linear.backward", "in train mode"),
    ("after a change of mode", lambda w: (layer := Linear(3, 4))(a(2, 3)) is layer.eval().train().backward(a(2, 4)), RuntimeError, "Linear.backward", "in train mode"),
]

SAVING = [
    ("saving into a folder that is not there", lambda w: save_model(w.model, w.folder / "no" / "m"), FileNotFoundError, "No such file or directory", "no/m"),
    ("saving where a folder is", lambda w: save_model(w.model, w.folder / "folder"), IsADirectoryError, "Is a directory", "folder"),
    ("saving below a file", lambda w: save_model(w.model, w.folder / "letter" / "m"), NotADirectoryError, "Not a directory", "letter/m"),
    ("saving below a file, a run", lambda w: w.trainer.save(w.folder / "letter" / "m"), NotADirectoryError, "Not a directory", "letter/m"),
    ("saving under a name too long", lambda w: save_model(w.model, w.folder / ("m" * 300)), OSError, "File name too long", "mmm"),
    ("saving under no name", lambda w: write_atomically("", b"x"), OSError, "'.'"),
    ("saving to None", lambda w: save_model(w.model, None), TypeError, "NoneType", "os.PathLike"),
    ("saving a run to a number", lambda w: w.trainer.save(5), TypeError, "int", "os.PathLike"),
    ("saving the wrong way round", lambda w: save_model(w.folder / "m", w.model), TypeError, "Path", "a Transformer"),
    ("saving nothing", lambda w: save_model(None, w.folder / "m"), TypeError, "NoneType", "a Transformer"),
    ("describing a layer", lambda w: describe_model(w.linear), TypeError, "Linear", "a Transformer"),
    ("writing text as bytes", lambda w: write_atomically(w.folder / "new", "text"), TypeError, "bytes-like", "'str'"),
    ("writing arrays of text", lambda w: write_tensors(w.folder / "new", {"W": np.array(["x"])}, {}), TypeError, "cannot be written", "str", "float32"),
    ("writing complex arrays", lambda w: write_tensors(w.folder / "new", {"W": np.zeros(2, object)}, {}), TypeError, "cannot be written", "object", "float32"),
    ("writing what JSON cannot hold", lambda w: write_tensors(w.folder / "new", {}, {"letters": {"a"}}), TypeError, "set", "JSON"),
    ("building from nothing", lambda w: build_model({}, {}), ValueError, "not usable", "lacks 'tokenizer'"),
    ("building from None", lambda w: build_model(None, {}), ValueError, "not usable", "NoneType"),
    ("building without parameters", lambda w: build_model(describe_model(w.model), {}), ValueError, "missing 'source_embedding.E'"),
    ("building with parameters in a list", lambda w: build_model(describe_model(w.model), [a(3)]), TypeError, "list", "a dict"),
    ("loading what is not there", lambda w: load_model(w.folder / "nowhere"), FileNotFoundError, "no such file", "nowhere"),
    ("loading a folder", lambda w: load_model(w.folder / "folder"), FileNotFoundError, "no such file", "folder"),
    ("loading below a file", lambda w: load_model(w.folder / "letter" / "m"), FileNotFoundError, "no such file", "letter/m"),
    ("loading None", lambda w: load_model(None), TypeError, "NoneType", "os.PathLike"),
    ("loading a model as a run", lambda w: Trainer.load(w.folder / "model.safetensors"), ValueError, "holds a 'model'", "not a 'training'"),
    ("loading a run as a model", lambda w: load_model(w.folder / "stopped/training.safetensors"), ValueError, "holds a 'training'", "not a 'model'"),
    ("loading a run that is not there", lambda w: Trainer.load(w.folder / "nowhere"), FileNotFoundError, "no such file", "nowhere"),
    ("loading a run for a task's name", lambda w: Trainer.load(w.folder / "stopped/training.safetensors", "reverse"), TypeError, "task is a str", "a Task"),
]


# Files that are not what they seem: name → how its bytes are made from those of a whole file, and what is said about it. `load_model` and `predict` read each of them.

def raw(change):
    "A file whose bytes are changed."
    return lambda data, tensors, about: change(data)


def metadata(values):
    "A whole file of arrays with other metadata."
    return lambda data, tensors, about: save(tensors, values)


def said(**changes):
    "A file that says something else about its arrays; a value of None leaves it out."
    return lambda data, tensors, about: forge(tensors, {n: v for n, v in (about | changes).items() if v is not LEFT_OUT})


def in_config(**changes):
    return lambda data, tensors, about: forge(tensors, about | {"config": about["config"] | changes})


def arrays(change):
    "A file with other arrays."
    return lambda data, tensors, about: forge(change(tensors), about)


def numbers_of(name, size):
    "A file that says that its numbers are of a type of its own."
    def change(data, tensors, about):
        whole = save({n: np.zeros(t.size, f"u{size}") for n, t in tensors.items()}, {"transformer_nb": json.dumps(about)})
        return retyped(whole, f"U{8 * size}", name)
    return change


def retyped(data, old, new):
    "The same file with another type in its header."
    n = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + n].replace(f'"dtype":"{old}"'.encode(), f'"dtype":"{new}"'.encode())
    return len(header).to_bytes(8, "little") + header + data[8 + n :]


def forge(tensors, about):
    return save(tensors, {"transformer_nb": json.dumps(about)})


LEFT_OUT = object()
DAMAGED = "damaged or not a safetensors file"

MODEL_FILES = {
    "empty": (raw(lambda d: b""), DAMAGED),
    "cut in the first bytes": (raw(lambda d: d[:4]), DAMAGED),
    "cut in the header": (raw(lambda d: d[:100]), DAMAGED),
    "cut in the middle": (raw(lambda d: d[: len(d) // 2]), DAMAGED),
    "cut by one byte": (raw(lambda d: d[:-1]), DAMAGED),
    "longer by one byte": (raw(lambda d: d + b"x"), DAMAGED),
    "wrong byte in the header": (raw(lambda d: d[:20] + b"\xff" + d[21:]), DAMAGED),
    "letter": (raw(lambda d: b"Dear reader, this is not a model."), DAMAGED),
    "picture": (raw(lambda d: b"\x89PNG\r\n\x1a\n" + bytes(100)), DAMAGED),
    "pickle": (raw(lambda d: pickle.dumps({"W": [1.0]})), DAMAGED),
    "of nobody": (metadata(None), "not written by transformer_nb", "metadata has []"),
    "of PyTorch": (metadata({"format": "pt"}), "not written by transformer_nb", "['format']"),
    "not JSON": (metadata({"transformer_nb": "{"}), "damaged", "not JSON"),
    "a list for metadata": (metadata({"transformer_nb": "[1]"}), "damaged", "a list"),
    "null for metadata": (metadata({"transformer_nb": "null"}), "damaged", "a NoneType"),
    "of version 2": (said(format_version=2), "format version 2", "reads version 1"),
    "of no version": (said(format_version=LEFT_OUT), "format version None", "reads version 1"),
    "of an unknown kind": (said(kind="image"), "holds a 'image'", "not a 'model'"),
    "of no kind": (said(kind=LEFT_OUT), "holds a None", "not a 'model'"),
    "bfloat16": (numbers_of("BF16", 2), "bfloat16"),
    "float8": (numbers_of("F8_E4M3", 1), "float8"),
    "renamed array": (arrays(lambda t: {("projection.bias" if n == "projection.b" else n): v for n, v in t.items()}), "missing 'projection.b'", "unexpected 'projection.bias'"),
    "array missing": (arrays(lambda t: {n: v for n, v in t.items() if n != "projection.b"}), "missing 'projection.b'"),
    "array too many": (arrays(lambda t: t | {"extra": a(3)}), "unexpected 'extra'"),
    "array transposed": (arrays(lambda t: t | {"projection.W": t["projection.W"].T.copy()}), "'projection.W' has shape (29, 8)", "expected (8, 29)"),
    "array of NaN": (arrays(lambda t: t | {"projection.b": t["projection.b"] + np.float32(np.nan)}), "'projection.b' has values that are not finite"),
    "array of bools": (arrays(lambda t: t | {"projection.b": ones(29)}), "'projection.b' is not numeric", "bool"),
    "no arrays": (arrays(lambda t: {}), "missing 'source_embedding.E'", "missing 'projection.b'"),
    "without a configuration": (said(config=LEFT_OUT), "not usable", "lacks 'config'"),
    "configuration of None": (said(config=None), "not usable", "NoneType"),
    "configuration in a list": (said(config=[8, 2]), "not usable", "mapping", "list"),
    "configuration of another model": (in_config(d_model=16), "'source_embedding.E' has shape (29, 8)", "expected (29, 16)"),
    "configuration with more blocks": (in_config(num_encoder_layers=2), "missing 'encoder.blocks.1.self_attention.Wq'"),
    "configuration of post-norm": (in_config(norm_first=False), "unexpected 'encoder.norm.gain'"),
    "configuration with an unknown field": (in_config(depth=3), "not usable", "'depth'"),
    "configuration with heads that do not divide": (in_config(nhead=3), "nhead=3", "[1, 2, 4, 8]"),
    "configuration with a size of text": (in_config(d_model="8"), "not usable", "d_model='8'", "int"),
    "configuration too large for any memory": (in_config(d_model=8 * 10**14), "not usable", "Unable to allocate"),
    "configuration with an unknown activation": (in_config(activation="tanh"), "'tanh'", "relu, gelu, gelu_tanh"),
    "without an entry for the tokenizer": (said(tokenizer=LEFT_OUT), "not usable", "lacks 'tokenizer'"),
    "tokenizer of text": (said(tokenizer="abc"), "not usable", "mapping", "str"),
    "tokenizer of nothing": (said(tokenizer={}), "not usable", "'characters'"),
    "tokenizer of a number": (said(tokenizer={"characters": 26}), "not usable", "int", "str"),
    "tokenizer of fewer letters": (said(tokenizer={"characters": "abc", "unk": False}), "6 tokens", "vocab_size=29"),
}


def load_run(folder):
    return Trainer.load(folder / "training.safetensors")


def in_training(**changes):
    return lambda data, tensors, about: forge(tensors, about | {"training": about["training"] | changes})


def one_stream(**changes):
    "The first random stream of the file is changed."
    def change(data, tensors, about):
        first, *_ = states = about["random_state"]
        return forge(tensors, about | {"random_state": states | {first: states[first] | changes}})
    return change


UNUSABLE = "not a usable training state"

STATE_FILES = {  # the same for the state of a run; `Trainer.load` and `train --resume` read each of them
    "state cut": (raw(lambda d: d[:-9]), DAMAGED),
    "state of version 0": (said(format_version=0), "format version 0", "reads version 1"),
    "state without its step": (said(step=LEFT_OUT), UNUSABLE, "lacks 'step'"),
    "state at a step of text": (said(step="2"), UNUSABLE, "step='2'", "0 to 4"),
    "state at step −1": (said(step=-1), UNUSABLE, "step=-1", "0 to 4"),
    "state behind its last step": (said(step=5), UNUSABLE, "step=5", "0 to 4"),
    "state without a history": (said(history=LEFT_OUT), UNUSABLE, "lacks 'history'"),
    "state with a history of text": (said(history="long"), UNUSABLE, "history"),
    "state with rows of nothing": (said(history=[{}]), UNUSABLE, "history", "step, loss and exact_match"),
    "state with losses of text": (said(losses=["low"]), UNUSABLE, "losses", "numbers"),
    "state of an unknown task": (said(task={"name": "revrese", "min_len": 1, "max_len": 4}), UNUSABLE, "'revrese'", "identity, reverse"),
    "state of no task": (said(task=None), UNUSABLE, "NoneType"),
    "state of a task that cannot be": (said(task={"name": "reverse", "min_len": 5, "max_len": 4}), UNUSABLE, "min_len=5", "max_len=4"),
    "state without settings": (said(training={}), UNUSABLE, "lacks 'betas'"),
    "state with an unknown setting": (in_training(epochs=3), UNUSABLE, "'epochs'"),
    "state with a negative rate": (in_training(lr=-1.0), UNUSABLE, "lr=-1.0", "at least 0"),
    "state with one beta": (in_training(betas=[0.9]), UNUSABLE, "betas=(0.9,)", "a pair"),
    "state of an unknown optimiser": (in_training(optimizer="lion"), UNUSABLE, "'lion'", "sgd, adam, adamw"),
    "state of another optimiser": (in_training(optimizer="sgd"), UNUSABLE, "missing 'velocity'", "unexpected 'mean'"),
    "state without the mean of Adam": (arrays(lambda t: {n: v for n, v in t.items() if n != "optimizer.mean"}), UNUSABLE, "missing 'mean'"),
    "state with a mean of NaN": (arrays(lambda t: t | {"optimizer.mean": t["optimizer.mean"] + np.float32(np.nan)}), UNUSABLE, "'mean' has values that are not finite"),
    "state with a mean of another model": (arrays(lambda t: t | {"optimizer.mean": a(7)}), UNUSABLE, "'mean' has shape (7,)", "expected"),
    "state after −1 updates": (arrays(lambda t: t | {"optimizer.steps": np.array(-1)}), UNUSABLE, "steps=-1", "whole number ≥ 0"),
    "state without a parameter": (arrays(lambda t: {n: v for n, v in t.items() if n != "parameters.projection.b"}), UNUSABLE, "missing 'projection.b'"),
    "state without random streams": (said(random_state=LEFT_OUT), UNUSABLE, "lacks 'random_state'"),
    "state with streams of nobody": (said(random_state={"a": 1}), UNUSABLE, "got streams ['a']", "source_dropout"),
    "state with a stream of another generator": (one_stream(bit_generator="PCG64"), UNUSABLE, "state must be for a"),
    "state with a stream of text": (one_stream(state={"state": ["x"] * 4}), UNUSABLE, "'x'"),
    "state with a stream out of range": (one_stream(state={"state": [-1] * 4}), UNUSABLE, "-1"),
    "state with a tokenizer of nothing": (said(tokenizer=None), UNUSABLE, "no tokenizer"),
}


# What the shell is asked: arguments, parts of the one line. The exit code is 2 unless a number stands first. `run` is a finished run, `stopped` one that stopped half way.

SHELL = [
    ("", "required: COMMAND"),
    ("fly", "invalid choice: 'fly'", "train", "predict", "forward"),
    ("--fly", "required: COMMAND"),
    # train: its arguments
    ("train", "required: task"),
    ("train revrese", "unknown task 'revrese'", "identity", "reverse"),
    ("train REVERSE", "unknown task 'REVERSE'", "identity", "reverse"),
    ("train reverse identity", "unrecognized arguments: identity"),
    ("train reverse --epochs 3", "unrecognized arguments: --epochs 3"),
    ("train reverse --steps", "argument --steps: expected one argument"),
    ("train reverse --steps many", "invalid int value: 'many'"),
    ("train reverse --steps 1.5", "invalid int value: '1.5'"),
    ("train reverse --steps 0", "steps=0", "at least 1"),
    ("train reverse --steps -5", "steps=-5", "at least 1"),
    ("train reverse --batch-size -3", "batch_size=-3", "at least 1"),
    ("train reverse --lr fast", "invalid float value: 'fast'"),
    ("train reverse --lr -1", "lr=-1.0", "at least 0"),
    ("train reverse --lr nan", "lr=nan", "finite"),
    ("train reverse --lr inf", "lr=inf", "finite"),
    ("train reverse --warmup -1", "warmup=-1", "at least 0"),
    ("train reverse --schedule linear", "'linear'; known are", "warmup_cosine"),
    ("train reverse --schedule inverse_sqrt --warmup 0", "warmup=0", "at least 1"),
    ("train reverse --optimizer lion", "'lion'; known are sgd, adam, adamw"),
    ("train reverse --optimizer sgd --momentum 1", "momentum=1.0", "below 1"),
    ("train reverse --weight-decay -0.1", "weight_decay=-0.1", "at least 0"),
    ("train reverse --clip-norm 0", "clip_norm=0.0", "above 0"),
    ("train reverse --clip-norm nan", "clip_norm=nan", "above 0"),
    ("train reverse --label-smoothing 1", "label_smoothing=1.0", "below 1"),
    ("train reverse --pool 0", "pool=0", "at least 1"),
    ("train reverse --eval-every 0", "eval_every=0", "at least 1"),
    ("train reverse --eval-size 0", "eval_size=0", "at least 1"),
    ("train reverse --d-model 0", "d_model=0", "at least 1"),
    ("train reverse --d-model 10", "d_model=10", "nhead=4", "[1, 2, 5, 10]"),
    ("train reverse --d-model 800000000000000", "Unable to allocate"),
    ("train reverse --heads 5", "nhead=5", "d_model=32"),
    ("train reverse --layers 0", "num_encoder_layers=0", "at least 1"),
    ("train reverse --d-ff -1", "dim_feedforward=-1", "at least 1"),
    ("train reverse --dropout 1", "p=1.0", "below 1"),
    ("train reverse --dropout nan", "p=nan", "below 1"),
    ("train reverse --activation tanh", "'tanh'; allowed are relu, gelu, gelu_tanh"),
    ("train reverse --preset huge", "invalid choice: 'huge'", "tiny", "paper"),
    ("train reverse --seed -1", "got -1; an integer seed must be ≥ 0"),
    ("train reverse --seed 1.5", "invalid int value: '1.5'"),
    ("train reverse --min-len 0", "min_len=0", "at least 1"),
    ("train reverse --max-len -1", "max_len=-1", "at least 1"),
    ("train reverse --min-len 9 --max-len 3", "min_len=9 is larger than max_len=3"),
    ("train reverse --max-len 600 --learned-positions", "601 ids", "512 rows"),
    ("train reverse --test-size 0", "--test-size 0", "at least 1"),
    ("train reverse --test-size few", "invalid int value: 'few'"),
    # train: its folder
    ("train reverse --out letter", "exists", "letter"),
    ("train reverse --out letter/sub", "Not a directory", "letter/sub"),
    ("train reverse --out stopped", "stopped holds an unfinished run (step 2 of 4)", "--resume", "another --out"),
    ("train reverse --out state-cut", "state-cut", "damaged"),
    ("train reverse --resume --out nowhere", "no such file: nowhere"),
    ("train reverse --resume --out folder", "no such file: folder"),
    ("train reverse --resume --out letter", "no such file: letter"),
    ("train reverse --resume --out stopped --steps 9", "leave out steps"),
    ("train reverse --resume --out stopped --lr 1 --heads 2", "leave out lr, nhead"),
    ("train identity --resume --out stopped", "'reverse', not 'identity'"),
    # train: what goes wrong later
    (1, "train reverse --out folder --quiet --steps 40 --max-len 4 --d-model 8 --heads 2 --layers 1 --optimizer sgd --schedule constant --post-norm --lr 1e38 --clip-norm 1e30", "the loss is", "smaller lr"),
    # predict
    ("predict", "required: model"),
    ("predict nowhere apple", "no such file: nowhere"),
    ("predict folder apple", "no such file: folder/model.safetensors"),
    ("predict letter apple", "letter is damaged or not a safetensors file"),
    ("predict run/history.csv apple", "history.csv is damaged or not a safetensors file"),
    ("predict run/loss.png apple", "loss.png is damaged or not a safetensors file"),
    ("predict run/training.safetensors apple", "holds a 'training', not a 'model'"),
    ("predict run Apple", "unknown character 'A' at position 0 of 'Apple'", "known are"),
    ("predict run apple 'two words'", "unknown character ' ' at position 3", "known are"),
    ("predict run apple --attention", "argument --attention: expected one argument"),
    ("predict run apple pear --attention x.png", "--attention draws one word; 2 were given"),
    ("predict run --attention x.png", "--attention draws one word; 0 were given"),
    ("predict run apple --attention x.exe", "'exe' is not supported", "png"),
    ("predict run apple pear --view x.html", "--view draws one word; 2 were given"),
    ("predict run apple --view x.exe", "'.exe'", "allowed are .html, .png and .svg"),
    ("predict run apple --attention nowhere/x.png", "No such file or directory", "nowhere/x.png"),
    ("predict run apple --attention letter/x.png", "Not a directory", "letter/x.png"),
    ("predict run apple --attention folder", "Is a directory", "folder"),
    # forward
    ("forward", "required: text"),
    ("forward apple pear", "unrecognized arguments: pear"),
    ("forward apple --preset huge", "invalid choice: 'huge'", "tiny", "paper"),
    ("forward apple --seed -1", "got -1", "≥ 0"),
    ("forward apple --seed x", "invalid int value: 'x'"),
    # verify
    ("verify Lin Foo", "'Foo'", "Linear"),
    ("verify --all", "unrecognized arguments: --all"),
    # every file that is not what it seems
    *((f"predict '{name}' apple", name, *parts) for name, (_, *parts) in MODEL_FILES.items()),
    *((f"train reverse --resume --out '{name}'", name, *parts) for name, (_, *parts) in STATE_FILES.items()),
]


# Disks that fail: what fails and how, what is tried, the exception, parts of its message. No file may be changed, lost or left behind.

OPEN, FLUSH, RENAME = "transformer_nb.foundations.base.open", "os.fsync", "os.replace"


def fails(where, error):
    "A function that raises, in the place of another."
    def broken(*_, **__):
        raise error
    return lambda patch: patch(where, broken, raising=where != OPEN)  # `open` is not the module's own


def half_written(patch):
    "The disk is full after half of the bytes."
    def opened(path, mode):
        file = open(path, mode)
        if mode != "wb": return file
        whole = file.write

        class Full(contextlib.AbstractContextManager):
            def __exit__(self, *_): file.close()
            def write(self, data):
                whole(data[: len(data) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return Full()
    patch(OPEN, opened, raising=False)


FULL, DENIED, READ_ONLY, BROKEN = (OSError(n, os.strerror(n)) for n in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO))


def keep(w):
    save_model(w.fresh_model(), w.folder / "model.safetensors")  # there is one already


def new(w):
    save_model(w.fresh_model(), w.folder / "new")


DISK = [
    ("full while writing over a model", half_written, keep, OSError, "No space left", "model.safetensors"),
    ("full while writing a new model", half_written, new, OSError, "No space left", "new"),
    ("full while flushing", fails(FLUSH, FULL), keep, OSError, "No space left", "model.safetensors"),
    ("full while saving a run", fails(FLUSH, FULL), lambda w: w.trainer.save(w.folder / "stopped/training.safetensors"), OSError, "No space left", "training.safetensors"),
    ("full in the middle of training", fails(FLUSH, FULL), lambda w: w.fresh_trainer().fit(progress=False, save_to=w.folder / "stopped/training.safetensors"), OSError, "No space left", "training.safetensors"),
    ("full while writing arrays", half_written, lambda w: write_tensors(w.folder / "model.safetensors", {"W": a(3)}, {}), OSError, "No space left", "model.safetensors"),
    ("read-only while opening", fails(OPEN, READ_ONLY), keep, OSError, "Read-only", "model.safetensors"),
    ("no right to write", fails(OPEN, DENIED), keep, PermissionError, "Permission denied", "model.safetensors"),
    ("no right to write a new file", fails(OPEN, DENIED), new, PermissionError, "Permission denied", "new"),
    ("no right to rename", fails(RENAME, DENIED), keep, PermissionError, "Permission denied", "model.safetensors"),
    ("no right to rename a new file", fails(RENAME, DENIED), new, PermissionError, "Permission denied", "new"),
    ("a disk that breaks", fails(FLUSH, BROKEN), keep, OSError, os.strerror(errno.EIO), "model.safetensors"),
    ("Ctrl-C while flushing", fails(FLUSH, KeyboardInterrupt()), keep, KeyboardInterrupt),
    ("Ctrl-C before renaming", fails(RENAME, KeyboardInterrupt()), keep, KeyboardInterrupt),
    ("no memory while flushing", fails(FLUSH, MemoryError("too little")), new, MemoryError, "too little"),
]

TRAIN = "train reverse --quiet --steps 2 --eval-every 2 --eval-size 2 --test-size 2 --max-len 4 --d-model 8 --heads 2 --layers 1 --out "

SHELL_DISK = [  # the same from a shell
    ("full during a run", fails(FLUSH, FULL), TRAIN + "folder", 2, "No space left", "folder/training.safetensors"),
    ("full during a second run in the folder of a first", fails(FLUSH, FULL), TRAIN + "run --seed 1", 2, "No space left", "run/training.safetensors"),
    ("no right to rename", fails(RENAME, DENIED), TRAIN + "run --seed 1", 2, "Permission denied", "run/training.safetensors"),
    ("no right to make files", fails("tempfile.TemporaryFile", OSError(errno.EACCES, os.strerror(errno.EACCES), "folder")), TRAIN + "folder", 2, "Permission denied", "folder"),
    ("no right to make the folder", fails("pathlib.Path.mkdir", OSError(errno.EACCES, os.strerror(errno.EACCES), "fresh")), TRAIN + "fresh", 2, "Permission denied", "fresh"),
    ("full during a picture", half_written, "predict run apple --attention x.png", 2, "No space left", "x.png"),
    ("full during a picture over a picture", fails(FLUSH, FULL), "predict run apple --attention run/loss.png", 2, "No space left", "run/loss.png"),
    ("Ctrl-C during a prediction", fails("transformer_nb.cli.predict", KeyboardInterrupt()), "predict run apple", 130, "interrupted"),
    ("no memory for a prediction", fails("transformer_nb.cli.predict", MemoryError("Unable to allocate 9 TiB")), "predict run apple", 2, "Unable to allocate 9 TiB"),
    ("standard input that cannot be read", fails("transformer_nb.cli.load_model", UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")), "predict run", 2, "invalid start byte"),
]


# The world

class OneWord(Reverse):
    "A task whose only string is not held out."
    def draw(self, rng): return "apple"


class Mixed(LayerTree):
    "A layer whose parameters have two types."
    def __init__(self): self.a, self.b = Parameter(np.ones(2, np.float32)), Parameter(np.ones(2))


class World:
    "What a user has at hand when something goes wrong: layers, models, optimisers, a stopped run, random streams, arrays and a folder full of files."
    def __init__(self, folder):
        self.folder, self.rng = folder, make_rng(1)
        self.tokenizer = CharTokenizer(string.ascii_lowercase)
        self.config = TransformerConfig(29, d_model=8, nhead=2, num_encoder_layers=1, num_decoder_layers=1, dim_feedforward=12, dropout=0.1)
        self.model, self.bare = self.fresh_model(), Transformer(self.config, seed=1)
        self.short = Transformer(replace(self.config, learned_positions=True, max_len=4), self.tokenizer, seed=2)
        self.linear, self.embedding, self.norm, self.dropout, self.mixed = Linear(3, 4, seed=0), InputEmbedding(5, 4, 0, seed=0), LayerNorm(4), Dropout(0.3, seed=0), Mixed()
        self.positions, self.learned = PositionalEncoding(4), PositionalEncoding(4, learned=True, max_len=3, seed=0)
        self.residual, self.feed_forward = ResidualConnection(4, dropout=0.1, seed=0), FeedForward(4, 6, dropout=0.1, seed=0)
        self.attention = MultiHeadAttention(8, 2, dropout=0.1, seed=0)
        self.encoder, self.decoder = (stack(1, 8, 2, 12, dropout=0.1, attention_dropout=0.1, seed=0) for stack in (Encoder, Decoder))
        self.loss, self.cache = CrossEntropyLoss(), KeyValueCache()
        self.attention(a(2, 3, 8), cache=self.cache)
        self.adam = Adam(self.linear)
        self.adam.gradients[:] = a(16)
        self.adam.step()
        self.left_behind, self.taken_over = (make(model) for model in [Linear(2, 2, seed=3)] for make in (Adam, SGD))
        self.retyped = SGD(doubled := Linear(2, 2, seed=3))
        doubled.astype(np.float64)
        self.trainer = self.fresh_trainer()
        self.trainer.fit(2, progress=False)
        self.batch = next(batches(self.trainer.task, self.tokenizer, 2, seed=0))
        self.write_files()

    def fresh_model(self): return Transformer(self.config, self.tokenizer, seed=0)
    def fresh_trainer(self): return make_trainer("reverse", **TINY)
    def wild_trainer(self): return make_trainer("reverse", **TINY | dict(optimizer="sgd", schedule="constant", norm_first=False, lr=1e38, clip_norm=1e30, steps=40, eval_every=40))

    def write_files(self):
        for name in ("folder", "run", "stopped"): (self.folder / name).mkdir()
        (self.folder / "letter").write_text("Dear reader")
        save_model(self.model, self.folder / "model.safetensors")
        self.trainer.save(self.folder / "stopped/training.safetensors")
        for kind, place, files in (("model", "model.safetensors", MODEL_FILES), ("training", "stopped/training.safetensors", STATE_FILES)):
            data = (self.folder / place).read_bytes()
            for name, (make, *_) in files.items():
                path = self.folder / name
                if kind == "training":
                    path.mkdir()
                    path = path / "training.safetensors"
                path.write_bytes(make(data, *read_tensors(self.folder / place, kind)))
        (self.folder / "state-cut").symlink_to("state cut")
        with contextlib.redirect_stdout(None): assert cli.main([*TRAIN.split(), str(self.folder / "run")]) == 0

    def picture(self):
        "Everything in it, as a dict of plain values."
        seen = dict(pictures("w", {n: v for n, v in vars(self).items() if n != "folder"}))
        return seen | {f"file {p.relative_to(self.folder)}": p.read_bytes() if p.is_file() else "folder" for p in self.folder.rglob("*")}


def surroundings():
    "What lies outside of the world and must not change either."
    seen = dict(pictures("NumPy's global state", np.random.get_state()))
    return seen | {"Python's global state": random.getstate(), "NumPy's errors": np.geterr(), "Ctrl-C": signal.getsignal(signal.SIGINT), "figures": plt.get_fignums(), "folder": os.getcwd()}


def pictures(name, x):
    "Pairs (name, plain value) of whatever x is made of."
    if isinstance(x, np.ndarray): yield name, (x.dtype.str, x.shape, x.tobytes())
    elif isinstance(x, dict):
        for n, v in x.items(): yield from pictures(f"{name}.{n}", v)
    elif isinstance(x, (list, tuple)):
        for i, v in enumerate(x): yield from pictures(f"{name}.{i}", v)
    elif isinstance(x, np.random.Generator): yield name, repr(x.bit_generator.state)
    elif isinstance(x, LayerTree):
        for n, p in x.named_parameters().items(): yield from pictures(f"{name}.{n}", p)
        for n, layer in x.named_layers(): yield f"{name}.{n} mode", (getattr(layer, "training", None), getattr(layer, "keep_weights", None))
        yield f"{name} random state", repr(get_random_state(x))
    elif isinstance(x, (Optimizer, KeyValueCache, Trainer, Task, CharTokenizer)):
        for n, v in vars(x).items(): yield from pictures(f"{name}.{n}", v)
    elif isinstance(x, Parameter):
        yield from pictures(name, [x.data, x.grad])
        yield f"{name} memory", (x.data.ctypes.data, x.grad.ctypes.data)  # an optimiser holds a view of it
    else: yield name, x


def differences(before, after):
    return [n for n in before | after if before.get(n) != after.get(n)]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    "Holds the world from row to row; a row that changed something takes it away."
    return {"make": lambda: World(tmp_path_factory.mktemp("world"))}


@pytest.fixture
def world(shelf, monkeypatch):
    if "world" not in shelf: shelf["world"] = shelf["make"]()
    monkeypatch.chdir(shelf["world"].folder)
    return shelf["world"]


@contextlib.contextmanager
def nothing_changes(world, shelf):
    "The last picture of the world is kept for the next row, because taking one is most of the work."
    before, around = shelf.pop("picture", None) or world.picture(), surroundings()
    yield
    after = world.picture()
    changed = differences(before | around, after | surroundings())
    if changed: del shelf["world"]
    else: shelf["picture"] = after
    assert not changed


def rows(*groups):
    return [pytest.param(call, error, parts, id=f"{group}: {name}") for group, table in groups for name, call, error, *parts in table]


ROWS = rows(("foundations", FOUNDATIONS), ("layers", LAYERS), ("attention", ATTENTION), ("model", MODEL), ("text and loss", TEXT_AND_LOSS), ("step", STEP),
            ("training", TRAINING), ("backward", BACKWARD), ("files", SAVING))
FILE_ROWS = [(load_model, name, parts) for name, (_, *parts) in MODEL_FILES.items()] + [(load_run, name, parts) for name, (_, *parts) in STATE_FILES.items()]
SHELL_ROWS = [row if isinstance(row[0], int) else (2, *row) for row in SHELL]


def check(call, error, parts):
    "The call raises exactly this exception with these parts in its message."
    with pytest.raises(error) as caught: call()
    assert caught.type is error
    assert not [p for p in parts if p not in str(caught.value)], str(caught.value)


def check_one_line(line, code, parts, capsys):
    "The command ends with this exit code and one line with these parts on the error stream."
    capsys.readouterr()
    try: given = cli.main(shlex.split(line))
    except SystemExit as e: given = e.code  # argparse leaves this way
    err = capsys.readouterr().err
    assert given == code, err
    assert err.startswith("transformer-nb") and ": error: " in err and err.endswith("\n") and err.count("\n") == 1, err
    assert not [p for p in parts if p not in err], err


@pytest.mark.parametrize("call,error,parts", ROWS)
def test_wrong_use_raises_and_changes_nothing(call, error, parts, world, shelf):
    with nothing_changes(world, shelf): check(lambda: call(world), error, parts)


@pytest.mark.parametrize("read,name,parts", [pytest.param(*row, id=row[1]) for row in FILE_ROWS])
def test_file_that_is_not_what_it_seems(read, name, parts, world, shelf):
    with nothing_changes(world, shelf): check(lambda: read(world.folder / name), ValueError, [name, *parts])


@pytest.mark.parametrize("code,line,parts", [pytest.param(code, line, parts, id=line or "nothing") for code, line, *parts in SHELL_ROWS])
def test_wrong_command_is_one_line_and_an_exit_code(code, line, parts, world, shelf, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with nothing_changes(world, shelf): check_one_line(line, code, parts, capsys)


@pytest.mark.parametrize("fail,call,error,parts", [pytest.param(*row, parts, id=name) for name, *row, parts in ((n, f, c, e, p) for n, f, c, e, *p in DISK)])
def test_failing_disk_leaves_the_old_files(fail, call, error, parts, world, shelf):
    with nothing_changes(world, shelf), pytest.MonkeyPatch.context() as patch:
        fail(patch.setattr)
        check(lambda: call(world), error, parts)


@pytest.mark.parametrize("fail,line,code,parts", [pytest.param(f, s, c, p, id=n) for n, f, s, c, *p in SHELL_DISK])
def test_failing_disk_from_a_shell(fail, line, code, parts, world, shelf, capsys):
    with nothing_changes(world, shelf), pytest.MonkeyPatch.context() as patch:
        fail(patch.setattr)
        check_one_line(line, code, parts, capsys)


# What cannot be pretended

@pytest.fixture
def locked(world):
    "A folder that may be read but not written, with a model in it that may not be read; root gives up its rights meanwhile."
    if not hasattr(os, "geteuid"): pytest.skip("needs POSIX permissions")
    folder = Path(tempfile.mkdtemp())
    try:
        save_model(world.model, folder / "model.safetensors")
        os.chmod(folder / "model.safetensors", 0)
        os.chmod(folder, 0o555)
        root = os.geteuid() == 0
        if root: os.seteuid(65534)
        try: yield folder
        finally:
            if root: os.seteuid(0)
    finally:
        os.chmod(folder, 0o755)
        shutil.rmtree(folder)


def test_locked_folder_and_file(locked, world, capsys):
    model, new = locked / "model.safetensors", locked / "new"
    check(lambda: save_model(world.model, new), PermissionError, [str(new)])
    check(lambda: save_model(world.model, model), PermissionError, [str(model)])
    check(lambda: load_model(model), PermissionError, [str(model)])
    check_one_line(f"predict {model} apple", 2, ["Permission denied", str(model)], capsys)
    check_one_line(TRAIN + str(locked), 2, ["Permission denied", str(locked)], capsys)
    check_one_line(TRAIN + str(locked / "sub"), 2, ["Permission denied", str(locked / "sub")], capsys)
    assert [p.name for p in locked.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("moment", ["os.fsync", "os.replace"])
def test_a_program_that_dies_while_it_writes_leaves_the_old_file(moment, world, tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(world.model, path)
    old = path.read_bytes()
    code = f"import os, sys; from transformer_nb.foundations.base import write_atomically; {moment} = lambda *_: os._exit(9); write_atomically(sys.argv[1], b'new')"
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == 9
    assert path.read_bytes() == old and load_model(path).config == world.config
    save_model(world.bare, path)  # what the dead program left beside the file is in nobody's way
    assert load_model(path).tokenizer is None


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "transformer_nb", "forward", "apple"], stdout=full, stderr=subprocess.PIPE, text=True, encoding="utf-8", env=os.environ | {"PYTHONUNBUFFERED": ""})
    assert done.returncode == 2 and done.stderr == f"transformer-nb: error: [Errno {errno.ENOSPC}] {os.strerror(errno.ENOSPC)}\n"


def test_input_that_is_not_text_is_one_line(world):
    done = subprocess.run([sys.executable, "-m", "transformer_nb", "predict", "run"], input=b"apple\n\xff\xfe\n", capture_output=True, cwd=world.folder)
    assert done.returncode == 2 and not done.stdout and done.stderr.count(b"\n") == 1
    assert b"unknown character" in done.stderr or b"can't decode" in done.stderr  # depends on the locale


def test_the_tables_are_long():
    assert len(ROWS) + len(FILE_ROWS) + len(SHELL_ROWS) + len(DISK) + len(SHELL_DISK) > 500
