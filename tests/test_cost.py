"""The cost ledger against the running model: parameters, arithmetic, memory, and (slow) time."""
import tracemalloc
from collections import Counter
from dataclasses import replace
from math import prod
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from transformer_nb.attention.masks import causal_mask
from transformer_nb.attention.multi_head import MultiHeadAttention
from transformer_nb.cli import main
from transformer_nb.foundations.base import get_random_state, make_rng
from transformer_nb.layers.dropout import Dropout
from transformer_nb.layers.embedding import InputEmbedding
from transformer_nb.layers.feed_forward import FeedForward
from transformer_nb.layers.positional_encoding import PositionalEncoding
from transformer_nb.layers.residual import ResidualConnection
from transformer_nb.learning.loss import CrossEntropyLoss
from transformer_nb.learning.optimizers import clip_grad_norm, make_optimizer
from transformer_nb.model import cost
from transformer_nb.model.cost import Cost, Rates, calibrate, cost_ledger, count_work, estimate_seconds, format_seconds, keep_freed_memory, ledger_table, parameter_shapes, step_seconds
from transformer_nb.model.projection import Projection
from transformer_nb.model.transformer import PRESETS, Transformer, TransformerConfig, preset_config
from transformer_nb.speed.where_time_goes import TimedStep, _Stopwatch, measure_growth, measure_memory, measure_presets, read_costs, write_costs

V, D, H, F, LE, LD, B, S, T = 19, 24, 3, 40, 2, 3, 4, 9, 6  # all different
VARIANTS = {"pre-norm": dict(), "post-norm": dict(norm_first=False), "no dropout": dict(dropout=0.0), "tied": dict(tie_embeddings=True), "no bias": dict(bias=False),
    "tied, no bias": dict(tie_embeddings=True, bias=False), "learned": dict(learned_positions=True, max_len=11), "tied, learned, post-norm": dict(tie_embeddings=True, learned_positions=True, max_len=9, norm_first=False),
    "gelu": dict(activation="gelu"), "gelu_tanh, dropped": dict(activation="gelu_tanh", activation_dropout=0.1), "relu, dropped": dict(activation_dropout=0.1),
    "attention dropped": dict(attention_dropout=0.1, dropout=0.0), "float64": dict(dtype="float64"), "from the end": dict(positions_from_end=True), "shifted": dict(position_shifts=3, learned_positions=True, max_len=11, dropout=0.0), "from the end, learned": dict(positions_from_end=True, learned_positions=True, max_len=9), "one head": dict(nhead=1), "one block": dict(num_encoder_layers=1, num_decoder_layers=1)}
every_variant = pytest.mark.parametrize("switches", VARIANTS.values(), ids=VARIANTS)


def make_config(**switches):
    return TransformerConfig(V, **dict(d_model=D, nhead=H, num_encoder_layers=LE, num_decoder_layers=LD, dim_feedforward=F, dropout=0.1) | switches)


def make_step(**switches):
    step = TimedStep(make_config(**switches), B, S, T)
    step()  # what is made once and cached for good exists from here on
    return step


def without_update(ledger):
    return sum((line for line in ledger.lines if line.name != "optimiser"), Cost())


def close(real, entry, tol=0.1):
    "Operations and bytes outside of products: what the ledger leaves out is small."
    return all(abs(getattr(entry, n) - getattr(real, n)) <= tol * getattr(real, n) for n in ("operations", "moved"))


# Parameters

@every_variant
def test_parameters_are_those_of_the_model_by_name_order_and_shape(switches):
    config = make_config(**switches)
    model = Transformer(config, seed=0)
    assert list(parameter_shapes(config).items()) == [(n, p.shape) for n, p in model.named_parameters().items()]
    assert cost_ledger(config, B, S, T).total.parameters == model.n_parameters


@pytest.mark.parametrize("preset", PRESETS)
def test_parameters_of_the_presets(preset):
    config = preset_config(preset, 29)
    n = sum(map(prod, parameter_shapes(config).values()))
    assert cost_ledger(config, B, S, T).total.parameters == n
    if preset != "paper": assert n == Transformer(config, seed=0).n_parameters


@every_variant
def test_each_component_has_its_own_parameters(switches):
    model = Transformer(make_config(**switches), seed=0)
    ledger = cost_ledger(model.config, B, S, T)
    count = lambda layers: sum(layer.n_parameters for layer in layers)
    for name, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        parts = {f"{name} self-attention": count(b.self_attention for b in stack.blocks), f"{name} feed-forward": count(b.feed_forward for b in stack.blocks)}
        if name == "decoder": parts["decoder cross-attention"] = count(b.cross_attention for b in stack.blocks)
        for part, n in parts.items(): assert ledger[part].parameters == n
        assert ledger[f"{name} norms"].parameters == stack.n_parameters - sum(parts.values())
    tied = model.config.tie_embeddings
    assert ledger["source embedding"].parameters == model.source_embedding.n_parameters + model.source_positions.n_parameters
    assert ledger["target embedding"].parameters == (0 if tied else model.target_embedding.n_parameters) + model.target_positions.n_parameters
    assert ledger["projection"].parameters == model.projection.n_parameters - (V*D if tied else 0)


# Arithmetic

@every_variant
def test_products_of_a_whole_step_are_exact_and_the_rest_is_close(switches):
    step = make_step(**switches)
    expected = without_update(step.ledger)
    for real, entry in ((count_work(step.forward, step.model), expected.forward), (count_work(step.backward, step.model), expected.backward)):
        assert real.products["heads"] == entry.products["heads"]
        assert sum(real.products.values()) == sum(entry.products.values())
        assert close(real, entry), f"operations {entry.operations}, counted {real.operations}; bytes {entry.moved}, counted {real.moved}"
        assert abs(entry.calls - real.calls) <= 0.04 * real.calls, f"calls {entry.calls}, counted {real.calls}"


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_products_of_the_presets_at_their_sizes(preset):
    step = TimedStep(preset_config(preset, 29), 3, 17, 13)
    step()
    real = count_work(step.forward, step.model) + count_work(step.backward, step.model)
    total = without_update(step.ledger)
    assert sum(real.products.values()) == sum((total.forward + total.backward).products.values())


def counted(forward, backward, *layers):
    "Counted forward and backward; the first forward is not counted."
    forward()
    y = []
    there = count_work(lambda: y.append(forward()), *layers)
    dy = make_rng(1).normal(size=np.shape(y[0])).astype(np.float32)
    return there, count_work(lambda: backward(np.asarray(dy) if dy.ndim else 1.0), *layers)


def parts_of_a_block():
    rng = make_rng(0)
    x, source, memory = (rng.normal(size=(B, n, D)).astype(np.float32) for n in (T, S, S))
    ids, logits, targets = rng.integers(1, V, (B, S)), rng.normal(size=(B, T, V)).astype(np.float32), rng.integers(1, V, (B, T))
    post = dict(norm_first=False, num_encoder_layers=1, num_decoder_layers=1)
    attention, masked, cross = (MultiHeadAttention(D, H, seed=0) for _ in range(3))
    yield "encoder self-attention", post, lambda: attention(source), attention.backward, [attention]
    yield "decoder self-attention", post, lambda: masked(x, mask=causal_mask(T)), masked.backward, [masked]
    yield "decoder cross-attention", post, lambda: cross(x, memory), cross.backward, [cross]
    for name in ("relu", "gelu", "gelu_tanh"):
        feed_forward = FeedForward(D, F, name, seed=0)
        yield "encoder feed-forward", post | dict(activation=name), lambda f=feed_forward: f(source), feed_forward.backward, [feed_forward]
    residuals = [ResidualConnection(D, False, 0.1, seed=i) for i in range(3)]
    def norms(x):
        for r in residuals: x = r(x, lambda x: x)
        return x
    def norms_backward(dy):
        for r in reversed(residuals): dy = r.backward(dy, lambda dy: dy)
    yield "decoder norms", post, lambda: norms(x), norms_backward, residuals
    table, positions, dropout = InputEmbedding(V, D, 0, seed=0), PositionalEncoding(D), Dropout(0.1, seed=0)
    yield "source embedding", post, lambda: dropout(positions(table(ids))), lambda dy: table.backward(positions.backward(dropout.backward(dy))), [table]
    projection = Projection(D, V, seed=0)
    yield "projection", post, lambda: projection(x), projection.backward, [projection]
    loss = CrossEntropyLoss(0, 0.1)
    yield "loss", post, lambda: loss(logits, targets), loss.backward, []


@pytest.mark.parametrize("name, switches, forward, backward, layers", [pytest.param(*p, id=f"{p[0]} {p[1].get('activation', '')}") for p in parts_of_a_block()])
def test_each_component_is_counted_by_itself(name, switches, forward, backward, layers):
    line = cost_ledger(make_config(**switches), B, S, T)[name]
    for real, entry in zip(counted(forward, backward, *layers), (line.forward, line.backward)):
        assert sum(real.products.values()) == sum(entry.products.values())
        assert close(real, entry, 0.15), f"operations {entry.operations}, counted {real.operations}; bytes {entry.moved}, counted {real.moved}"
        assert abs(entry.calls - real.calls) <= 1, f"calls {entry.calls}, counted {real.calls}"


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_update_is_counted(name):
    model = FeedForward(200, 400, seed=0)  # more than two blocks of the optimiser
    optimizer = make_optimizer(name, model, lr=0.1, **dict(momentum=0.9) if name == "sgd" else dict(weight_decay=0.0) if name == "adamw" else {})
    watched = lambda a: a.view(cost._Counted)
    optimizer._update = lambda *arrays, update=optimizer._update: update(*map(watched, arrays))
    optimizer.gradients[...] = 1
    def update():
        clip_grad_norm(watched(optimizer.gradients), 1.0)
        optimizer.step()
    real = count_work(update)
    line = cost._update(SimpleNamespace(itemsize=4), model.n_parameters, name).backward
    assert abs(line.operations / real.operations - 1) < 0.1
    assert abs(line.moved / (real.moved + 4*model.n_parameters) - 1) < 0.1  # zeroing is no arithmetic, but moves bytes
    assert abs(line.calls / real.calls - 1) < 0.2


def test_backward_is_twice_forward_and_heads_drop_out():
    flops = {h: cost_ledger(make_config(nhead=h), B, S, T).total for h in (1, 2, 4)}
    assert flops[1].forward.products == flops[2].forward.products == flops[4].forward.products
    total = cost_ledger(make_config(), B, S, T)
    for name in total.components[1:4]:
        assert sum(total[name].backward.products.values()) == 2 * sum(total[name].forward.products.values())


def test_attention_by_hand():
    ledger = cost_ledger(make_config(), B, S, T)
    assert sum(ledger["decoder cross-attention: maps"].forward.products.values()) == LD * 2*B*D*D*(2*T + 2*S)
    assert ledger["decoder cross-attention: scores"].forward.products == Counter(heads=LD * 2*B*T*S*D) == ledger["decoder cross-attention: mixture"].forward.products
    assert ledger["decoder self-attention: scores"].forward.products == Counter(heads=LD * 2*B*T*T*D)
    assert ledger["encoder self-attention: scores"].forward.products == Counter(heads=LE * 2*B*S*S*D)


def test_counting_leaves_numpy_and_the_layer_as_they_were():
    makers, layer = (np.asarray, np.empty, np.zeros), FeedForward(D, F, seed=0)
    arrays = [(p.data, p.grad) for p in layer.named_parameters().values()]
    with pytest.raises(ValueError): count_work(lambda: layer(np.ones((2, D + 1))), layer)
    assert count_work(lambda: layer(np.ones((2, D), np.float32)), layer).calls > 0
    assert (np.asarray, np.empty, np.zeros) == makers
    assert all(p.data is a and p.grad is g for p, (a, g) in zip(layer.named_parameters().values(), arrays))


def test_counted_step_learns_the_same():
    plain, watched = make_step(), make_step()
    plain()
    count_work(watched.forward, watched.model)
    count_work(watched.backward, watched.model)
    watched.update()
    for a, b in zip(plain.model.get_parameters().values(), watched.model.get_parameters().values()): assert (a == b).all()


# Memory

def bytes_kept(call):
    "Bytes of all arrays made by a call that are still there when its result is gone."
    tracemalloc.start()
    try:
        call()
        arrays = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)])
        return sum(trace.size for trace in arrays.traces)
    finally: tracemalloc.stop()


@every_variant
def test_kept_bytes_are_exactly_those_that_are_there(switches):
    step = make_step(**switches)
    assert bytes_kept(step.forward) == step.ledger.total.kept
    step.backward()


@pytest.mark.parametrize("S, T", [(3, 11), (11, 3), (1, 1)])
def test_kept_bytes_with_other_lengths(S, T):
    step = TimedStep(make_config(norm_first=False), 5, S, T)
    step()
    assert bytes_kept(step.forward) == step.ledger.total.kept


@pytest.mark.parametrize("name, switches, forward, backward, layers", [pytest.param(*p, id=f"{p[0]} {p[1].get('activation', '')}") for p in parts_of_a_block()])
def test_each_component_keeps_its_own(name, switches, forward, backward, layers):
    line = cost_ledger(make_config(**switches), B, S, T)[name]
    forward()
    here = dict.fromkeys(("encoder self-attention", "encoder feed-forward"), B*S*D) | {"decoder self-attention": B*T*D, "decoder cross-attention": B*T*D + B*S*D, "projection": B*T*D}
    assert bytes_kept(forward) + 4 * here.get(name, 0) == line.kept  # the input is kept too, but was there before


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_memory_of_parameters_gradients_and_optimiser(name):
    model = Transformer(make_config(), seed=0)
    memory = cost_ledger(model.config, B, S, T, name).memory
    optimizer = make_optimizer(name, model)
    assert memory["parameters"] == optimizer.values.nbytes and memory["gradients"] == optimizer.gradients.nbytes
    assert memory["optimiser"] == sum(getattr(optimizer, n).nbytes for n in optimizer.state_names)


# Ledger and table

def test_components_add_up_to_the_total():
    ledger = cost_ledger(make_config(), B, S, T)
    parts = sum((ledger[name] for name in ledger.components), Cost())
    assert replace(parts, name="total") == ledger.total
    assert ledger["decoder self-attention"] == replace(sum((ledger[f"decoder self-attention: {p}"] for p in ("maps", "scores", "softmax", "mixture")), Cost()), name="decoder self-attention")


def test_tables():
    ledger = cost_ledger(preset_config("paper", 37000), 16, 32, 32)
    text = str(ledger)
    assert text == ledger_table(ledger) and "63.1 M" in text.splitlines()[-3] and "optimiser" in text and "together" in text
    assert len({len(line) for line in text.splitlines()[:-2]}) == 1, "columns are not straight"
    assert "decoder cross-attention: mixture" in ledger_table(ledger, parts=True)
    rates = Rates(dict.fromkeys((ledger.total.forward + ledger.total.backward).products, 1e9), 1e9, 1e9, 1e9, 1e-6, 0.)
    assert "ms" in ledger_table(ledger, rates=rates).splitlines()[0]


@pytest.mark.parametrize("seconds, text", [(0.00321, "3.21 ms"), (0.9996, "1.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 0 s"), (4325, "1 h 12 min"), (0, "0 ms")])
def test_durations(seconds, text): assert format_seconds(seconds) == text


@pytest.mark.parametrize("error, parts, arguments", [
    (TypeError, ("config is a dict",), ({}, B, S, T)), (ValueError, ("batch=0",), (make_config(), 0, S, T)), (TypeError, ("source=9.0", "float"), (make_config(), B, 9.0, T)),
    (ValueError, ("target=-1",), (make_config(), B, S, -1)), (TypeError, ("batch=True",), (make_config(), True, S, T)), (ValueError, ("'lion'", "adam, adamw, sgd"), (make_config(), B, S, T, "lion")),
    (ValueError, ("12 positions", "11 rows"), (make_config(learned_positions=True, max_len=11), B, 12, T)),
    (ValueError, ("12 positions", "11 rows"), (make_config(learned_positions=True, max_len=11, position_shifts=4), B, S, T))])
def test_wrong_arguments(error, parts, arguments):
    for call in (cost_ledger, estimate_seconds):
        with pytest.raises(error) as e: call(*arguments)
        assert all(part in str(e.value) for part in parts), e.value


def test_wrong_names_rates_and_budgets():
    ledger = cost_ledger(make_config(), B, S, T)
    with pytest.raises(ValueError, match="no component 'attention'.*encoder self-attention"): ledger["attention"]
    with pytest.raises(ValueError, match="heads.*another model"): step_seconds(ledger, Rates({}, 1, 1, 1, 1, 1))
    for seconds, error in ((0, ValueError), (float("nan"), ValueError), (float("inf"), ValueError), ("1", TypeError), (True, TypeError)):
        with pytest.raises(error, match="seconds="): calibrate(make_config(), B, S, T, seconds=seconds)


# Time

def test_seconds_follow_from_rates_by_hand():
    ledger = cost_ledger(make_config(), B, S, T)
    kinds = (ledger.total.forward + ledger.total.backward).products
    total = lambda **rates: sum(map(sum, step_seconds(ledger, Rates(**dict(products=dict.fromkeys(kinds, np.inf), vector=np.inf, parameters=np.inf, functions=np.inf, call=0., fresh=0.) | rates)).values()))
    update = ledger["optimiser"].backward
    assert total() == 0
    assert np.isclose(total(products=dict.fromkeys(kinds, 2.)), sum(kinds.values()) / 2)
    assert np.isclose(total(vector=4.), (ledger.total.forward.moved + ledger.total.backward.moved - update.moved) / 4)
    assert np.isclose(total(parameters=4.), update.moved / 4)
    assert np.isclose(total(call=3.), 3 * (ledger.total.forward.calls + ledger.total.backward.calls))
    assert np.isclose(total(fresh=0.5), ledger.total.kept / 2)
    assert np.isclose(total(functions=1.), ledger.total.forward.functions + ledger.total.backward.functions)


@every_variant
def test_calibration_works_for_every_variant(switches):
    config = make_config(**switches)
    rates = calibrate(config, B, S, T, seconds=0.01)
    assert min(*rates.products.values(), rates.vector, rates.parameters, rates.functions, rates.call) > 0 <= rates.fresh
    assert estimate_seconds(config, B, S, T, rates=rates) < estimate_seconds(config, 2*B, S, T, rates=rates) < 2 * estimate_seconds(config, B, S, T, rates=rates)


def test_an_estimate_touches_no_random_stream():
    model, state = Transformer(make_config(), seed=0), np.random.get_state()
    before = get_random_state(model)
    estimate_seconds(model.config, B, S, T, rates=calibrate(model.config, B, S, T, seconds=0.01))
    assert get_random_state(model) == before
    assert all(np.array_equal(a, b) for a, b in zip(state, np.random.get_state()))


def test_kept_memory_is_a_promise_or_none(): assert keep_freed_memory() in (True, False)


def test_stopwatch_gives_every_component_its_time_and_changes_nothing():
    plain, watched = make_step(), make_step()
    times = watched.components(budget=0.01)
    n = watched.adam.steps - plain.adam.steps
    for _ in range(n): plain()
    assert list(times) == watched.ledger.components and all(f >= 0 and b >= 0 for f, b in times.values())
    for a, b in zip(plain.model.get_parameters().values(), watched.model.get_parameters().values()): assert (a == b).all()
    assert not any({"forward", "backward", "update"} & vars(x).keys() for x in (watched, watched.loss, *(layer for _, layer in watched.model.named_layers())))


def test_stopwatch_stops_the_outer_time_while_the_inner_one_runs():
    now = [0.0]
    watch = _Stopwatch(lambda: now[0])
    def inner(): now[0] += 3
    def outer():
        now[0] += 1
        timed_inner()
        now[0] += 1
    timed_inner, timed_outer = watch.timed(inner, "inner"), watch.timed(outer, "outer")
    timed_outer()
    assert watch.lap() == {"outer": 2.0, "inner": 3.0} and watch.lap() == {}


def test_measurements_are_written_and_read_back(tmp_path):
    presets = measure_presets(["tiny"], rounds=1, budget=0.01, say=str)
    growth = measure_growth(0.01, sizes=dict(width=(8, 12), batch=(1,)), say=str)
    memory = [dict(preset="tiny", memory="kept", pages=3.0, seconds=0.25)]
    write_costs(tmp_path/"a"/"b", presets, growth, memory, "a command")
    again, growth_again, memory_again, about = read_costs(tmp_path/"a"/"b")
    assert len(again) == len(presets) and [(r["axis"], r["value"], r["flops"]) for r in growth_again] == [(r["axis"], r["value"], r["flops"]) for r in growth]
    assert memory_again == memory and about["command"] == "a command" and about["numpy"] == np.__version__
    with pytest.raises(ValueError, match="no rows"): write_costs(tmp_path/"c", [], growth, memory)
    assert not (tmp_path/"c").exists()
    (tmp_path/"a"/"b"/"growth.csv").write_text("axis,value\nwidth,8\n")
    with pytest.raises(ValueError, match="growth.csv is not a table"): read_costs(tmp_path/"a"/"b")
    for measure in (measure_presets, measure_memory):
        with pytest.raises(ValueError, match="'huge'.*tiny"): measure(["tiny", "huge"])
    with pytest.raises(ValueError, match="'colour'.*width"): measure_growth(0.01, sizes=dict(width=(8,), colour=(1,)))


def test_stored_measurements_are_whole():
    "The chapter reads them; here we see that the ledger still counts as it did when they were made."
    presets, growth, memory, about = read_costs(Path(__file__).parent.parent/"nbs"/"data"/"cost")
    assert {"command", "date", "processor", "numpy", "threads"} <= about.keys() and "cost --measure" in about["command"]
    assert {r["preset"] for r in presets} == {r["preset"] for r in memory} == set(PRESETS)
    assert {r["axis"] for r in growth} == {"width", "length", "batch", "depth"}
    assert all(r["predicted"] > 0 < r["measured"] for r in growth + [r for r in presets if r["name"] == "step"])


@pytest.mark.slow
@pytest.mark.skipif(not keep_freed_memory(), reason="only glibc can be asked to keep memory")
def test_kept_memory_saves_pages():
    rows = {r["memory"]: r["pages"] for r in measure_memory(["tiny"], budget=0.5, say=str)}
    assert rows["kept"] < 50 and rows["kept"] <= rows["given back"]


@pytest.mark.slow
@pytest.mark.parametrize("preset, B, T", [("tiny", 64, 12), ("small", 64, 16), ("base", 64, 24)])
def test_prediction_is_near_the_measurement(preset, B, T):
    "Wide margins: other programs may take the processor meanwhile."
    step = TimedStep(preset_config(preset, 29, dropout=0.1, norm_first=False), B, T, T)
    ratios = [estimate_seconds(step.ledger.config, B, T, T) / step.seconds(1.0) for _ in range(5)]
    assert 0.5 < np.median(ratios) < 2, ratios


# Command


@pytest.fixture
def command(capsys):
    "Calls `transformer-nb cost` and returns exit code, output and error."
    def call(line=""):
        try: code = main(["cost", *line.split()])
        except SystemExit as e: code = e.code
        if code == 2 and "invalid choice: 'cost'" in (err := capsys.readouterr().err): pytest.skip("the command line has no command cost")
        elif code == 2: return code, "", err
        return code, *capsys.readouterr()
    return call


def test_command_counts(command):
    code, out, _ = command("--preset tiny --no-time")
    n = cost_ledger(preset_config("tiny", 29), 32, 17, 17).total.parameters
    assert code == 0 and f"{n/1e3:.3g} k" in out and "time:" not in out and " ms" not in out


def test_command_estimates(command):
    code, out, _ = command("--preset tiny --batch-size 2 --length 3 --steps 250 --parts")
    assert code == 0 and "decoder cross-attention: scores" in out and "for 250 steps" in out and out.splitlines()[0].endswith("ms")


@pytest.mark.parametrize("line, config", [("--d-model 32 --heads 8", dict(d_model=32, nhead=8, dim_feedforward=128)), ("--layers 3 --d-ff 100", dict(num_encoder_layers=3, num_decoder_layers=3, dim_feedforward=100)),
    ("--post-norm --tie-embeddings --activation gelu --dropout 0.2", dict(norm_first=False, tie_embeddings=True, activation="gelu", dropout=0.2)), ("--learned-positions --length 600", dict(learned_positions=True, max_len=600))])
def test_command_takes_the_sizes_of_train(command, line, config):
    length = 600 if "600" in line else 17
    expected = ledger_table(cost_ledger(preset_config("small", 29, **dict(max_len=max(512, length)) | config), 32, length, length))
    code, out, _ = command(f"{line} --no-time")
    assert code == 0 and out.rstrip("\n") == expected


@pytest.mark.parametrize("line, part", [("--steps 0", "--steps 0"), ("--batch-size 0", "batch=0"), ("--length -3", "source=-3"), ("--heads 5", "nhead=5"), ("--optimizer lion", "'lion'"), ("--activation swish", "swish"),
    ("--vocab 0", "vocab_size=0"), ("--layers 0", "num_encoder_layers=0"), ("--dropout 1.5", "dropout=1.5"), ("--preset huge", "invalid choice: 'huge'"), ("--batch-size many", "many"), ("--measure /dev/null/x", "/dev/null")])
def test_command_refuses(command, line, part):
    code, _, err = command(line)
    assert code == 2 and part in err and len(err.strip().splitlines()) == 1


def show():
    "Counted against the ledger, component by component: what has to change in `VECTOR_WORK` when a layer has changed."
    for name, switches, forward, backward, layers in parts_of_a_block():
        line = cost_ledger(make_config(**switches), B, S, T)[name]
        for way, real, entry in zip(("forward", "backward"), counted(forward, backward, *layers), (line.forward, line.backward)):
            print(f"{name:<24}{switches.get('activation', ''):<11}{way:<9}", *(f"{n} {getattr(real, n):,} / {getattr(entry, n):,}  " for n in ("flops", "operations", "moved", "calls")))


if __name__ == "__main__": show()
