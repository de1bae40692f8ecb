"The benchmark: the textbook version equals ours, all rows compute the same, and what cannot be asked for is refused. How fast anything is stands in the chapters; here only a wide margin is looked at."
import argparse
import csv
import importlib
import importlib.util
import io
import json
import os
import re
import sys

import numpy as np
import pytest

from transformer_nb.attention.multi_head import split_heads
from transformer_nb.foundations.base import make_rng
from transformer_nb.foundations.checks import check_close
from transformer_nb.learning import Adam, CrossEntropyLoss, Reverse, greedy_decode
from transformer_nb.model import Transformer, preset_config
import transformer_nb.speed.ablation as ablation_module
import transformer_nb.speed.bench as bench_module
import transformer_nb.speed.textbook as textbook_module
from transformer_nb.speed.ablation import UNDONE, ablation_table, run_ablation, write_ablation
from transformer_nb.speed.bench import ROWS, SHAPES, Case, Row, bench_table, check_rows, measure, plot_bench, product_flops, read_bench, run_bench, write_bench
from transformer_nb.speed.textbook import TextbookTransformer, plain_dropout
from transformer_nb.speed_commands import add_bench

HAS = {extra: importlib.util.find_spec(extra) is not None for extra in ("torch", "jax")}
PRIVATE = {name: getattr(ablation_module, name) for name in ("_model", "_PerParameter", "_float_mask")}
QUICK = dict(repeats=2, seconds=0.01)
NUMPY_ROWS = {"step": ["ours", "textbook"], "forward": ["ours_forward", "textbook_forward"], "decode": ["ours_decode", "ours_decode_uncached", "textbook_decode"]}


def model_and_batch(padded, dtype="float64"):
    "A small post-norm model and ids of different lengths on both sides, all sizes different."
    tokenizer = Reverse().tokenizer()
    config = preset_config("tiny", len(tokenizer), norm_first=False, dropout=0.0, dtype=dtype, num_encoder_layers=2, num_decoder_layers=3)
    model, rng = Transformer(config, tokenizer, seed=0).train(), make_rng(1)
    for p in model.named_parameters().values():
        p.data += rng.normal(0, 0.1, p.shape).astype(dtype)  # biases, too
    source, target_in, target_out = (rng.integers(3, config.vocab_size, (5, n)) for n in (7, 6, 6))
    if padded:
        source[1, 4:] = target_in[2, 3:] = target_out[2, 3:] = 0
    return model, (source, target_in, target_out)


def our_gradients(model, batch, smoothing):
    loss = CrossEntropyLoss(0, smoothing)
    value = loss(model(batch[0], batch[1]), batch[2])
    model.zero_grad()
    model.backward(loss.backward())
    return value, model.get_gradients()


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_textbook_equals_ours(padded, smoothing):
    model, batch = model_and_batch(padded)
    value, expected = our_gradients(model, batch, smoothing)
    loss, gradients = TextbookTransformer(model.config, model.get_parameters(), smoothing).gradients(*batch)
    check_close(loss, value, 1e-12)
    assert gradients.keys() == expected.keys()
    for name in expected:
        check_close(gradients[name], expected[name], 1e-12)


def test_textbook_stays_equal_over_steps():
    model, batch = model_and_batch(True)
    plain = TextbookTransformer(model.config, model.get_parameters(), 0.1, lr=1e-3)
    adam = Adam(model, lr=1e-3, betas=(0.9, 0.98), eps=1e-9)
    for _ in range(10):
        value, _ = our_gradients(model, batch, 0.1)
        adam.step()
        check_close(plain.step(*batch), value, 1e-9)


def test_textbook_writes_what_ours_writes_and_stays_in_float32():
    model, (source, *_) = model_and_batch(False, "float32")
    plain = TextbookTransformer(model.config, model.get_parameters())
    model.projection.b.data[:3] = plain.parameters["projection.b"][:3] = -1e4
    assert np.array_equal(plain.greedy(source, 8, 1), greedy_decode(model, source, 8))
    _, gradients = plain.gradients(*model_and_batch(False)[1])
    assert {g.dtype for g in gradients.values()} == {np.dtype(np.float32)}
    plain.step(*model_and_batch(True)[1])
    assert {p.dtype for p in plain.parameters.values()} == {np.dtype(np.float32)}


def test_textbook_dropout():
    x = np.ones((400, 500), np.float32)
    y, mask = plain_dropout(x, 0.1, make_rng(0))
    assert y.dtype == np.float32 and set(np.unique(y)) == {np.float32(0), np.float32(1) / np.float32(0.9)}
    assert abs((mask == 0).mean() - 0.1) < 0.004 and plain_dropout(x, 0, make_rng(0)) == (x, None)


@pytest.mark.parametrize("change", [dict(norm_first=True), dict(tie_embeddings=True), dict(activation="gelu"), dict(bias=False), dict(learned_positions=True), dict(attention_dropout=0.1)])
def test_textbook_refuses_what_it_does_not_cover(change):
    config = preset_config("tiny", 5, **{"norm_first": False} | change)
    with pytest.raises(ValueError, match="only post-norm"):
        TextbookTransformer(config, Transformer(config, seed=0).get_parameters())


@pytest.mark.parametrize("kind", NUMPY_ROWS)
def test_rows_of_numpy_agree(kind):
    said = []
    assert check_rows(NUMPY_ROWS[kind], "tiny", said.append) == {}
    assert [line.split()[0] for line in said] == NUMPY_ROWS[kind]


@pytest.mark.parametrize("kind", NUMPY_ROWS)
@pytest.mark.parametrize("library", [pytest.param("torch", marks=pytest.mark.skipif(not HAS["torch"], reason="PyTorch is not installed")),
    pytest.param("jax", marks=[pytest.mark.jax, pytest.mark.skipif(not HAS["jax"], reason="needs the extra jax")])])
def test_rows_of_the_frameworks_agree(library, kind):
    names = [n for n, r in ROWS.items() if r.kind == kind and library in r.needs and "compile" not in n]
    said = []
    assert check_rows(NUMPY_ROWS[kind][:1] + names, "tiny", said.append) == {} and len(said) == 1 + len(names)


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    "Rows in a module of their own, as the workers import them."
    (tmp_path / "made_up_rows.py").write_text("""
import os
from transformer_nb.speed.bench import ROWS, Row, _ours, _ours_forward, _ours_decode
def wrong(case):
    step, probe = _ours(case)
    return step, lambda: [probe()[0], probe()[1] * 1.001, probe()[2]]
def other_logits(case):
    run, probe = _ours_forward(case)
    return run, lambda: [1.001 * x for x in probe()]
def other_ids(case):
    run, probe = _ours_decode(case)
    return run, lambda: probe() + (probe() % 3 == 0)
def dies(case): os._exit(3)
def raises(case): raise OSError("no compiler")
def shows(case):
    print("a line that is no answer", flush=True)
    os.system("echo another")
    return None, lambda: [int(os.environ[v]) for v in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")]
for f, kind, needs in ((wrong, "step", ""), (other_logits, "forward", ""), (other_ids, "decode", ""), (dies, "step", ""), (raises, "step", ""), (shows, "step", "")):
    ROWS[f.__name__] = Row(kind, f.__name__, needs, f, __name__)
ROWS["no_compiler"] = Row("step", "no compiler", "json", raises, __name__)
""")
    monkeypatch.syspath_prepend(tmp_path)
    before = set(ROWS)
    importlib.import_module("made_up_rows")
    yield
    for name in set(ROWS) - before:
        del ROWS[name]
    del sys.modules["made_up_rows"]


@pytest.mark.parametrize("names", [["ours", "wrong"], ["ours_forward", "other_logits"], ["ours_decode", "other_ids"]], ids=lambda n: n[1])
def test_a_row_that_computes_something_else_is_caught(made_up, names):
    with pytest.raises(ValueError, match=f"{names[1]} does not compute what {names[0]} does"):
        check_rows(names, "tiny")


def test_a_row_of_ours_that_fails_is_an_error_and_one_of_a_library_is_left_out(made_up):
    with pytest.raises(RuntimeError, match="row dies: its process ended with code 3"):
        check_rows(["ours", "dies"], "tiny")
    with pytest.raises(RuntimeError, match="row raises: OSError: no compiler"):
        measure(["raises"], "tiny")
    assert check_rows(["ours", "no_compiler"], "tiny") == {"no_compiler": "row no_compiler: OSError: no compiler"}
    said = []
    records = run_bench(["tiny"], rows=["no_compiler"], report=said.append, **QUICK)
    assert [r["row"] for r in records] == ["ours", "sgemm"] and "  left out: row no_compiler: OSError: no compiler" in said


def test_what_a_library_prints_is_no_answer_and_threads_are_set(made_up):
    for threads in (1, 2):
        with bench_module._Worker("shows", Case("tiny"), threads) as worker:
            assert worker.ask("probe")["values"] == [threads] * 4


def test_measure():
    results = measure(["ours", "textbook", "ours@1"], "tiny", repeats=3, seconds=0.01)
    assert [r["name"] for r in results] == ["ours", "textbook", "ours@1"]
    for r in results:
        assert len(r["times"]) == len(r["cpu"]) == 3 and min(r["times"]) > 0 and min(r["cpu"]) > 0
        assert 5 < r["import_mb"] <= r["peak_mb"] < 500 and r["first_s"] > 0


def test_rows_are_run_in_turns(monkeypatch):
    asked, started = [], []
    class Worker:
        about = {}
        def __init__(self, name, case, threads):
            self.name = name
            started.append((name, threads))
        def __enter__(self): return self
        def __exit__(self, *_): pass
        def ask(self, do, n=None):
            if do == "run":
                asked.append(self.name)
            return dict(seconds=1.0, cpu=1.0, peak_mb=1.0)
    monkeypatch.setattr(bench_module, "_Worker", Worker)
    measure(["ours", "textbook", "sgemm"], "tiny", repeats=4)
    rounds = [tuple(asked[i:i+3]) for i in range(9, len(asked), 3)]  # after first runs, warm-up, and one to see how long it takes
    assert len(rounds) == 4 and all(sorted(r) == ["ours", "sgemm", "textbook"] for r in rounds) and len(set(rounds)) > 2
    started.clear()
    measure(["ours", "textbook", "ours@1"], "tiny", threads=2, repeats=1)
    assert started == [("ours", 2), ("textbook", 2), ("ours", 1)]


def test_ratios_are_taken_round_by_round():
    t = np.array([1.0, 2.0, 4.0])  # the machine became slower, for both
    made = [dict(name=n, times=(f * t).tolist(), cpu=(f * t / 2).tolist(), peak_mb=1, import_mb=1, import_s=1, first_s=1, make_s=1) for n, f in (("ours", 1), ("textbook", 2), ("sgemm", 0.001))]
    ours, textbook, sgemm = bench_module._summary("tiny", 1, "step", made, "wall")
    assert (textbook["ours_over_low"], textbook["ours_over"], textbook["ours_over_high"]) == (0.5, 0.5, 0.5)
    assert (ours["ms"], textbook["ms"], textbook["cores"]) == (2000, 4000, 0.5)
    config = Case("tiny").config
    check_close(ours["gflops"], 3 * product_flops(config, 64, 12, 12) / 2e9, 1e-3)
    check_close(ours["of_machine"], 3 * product_flops(config, 64, 12, 12) / 1 / (2 * 512**3 / 0.001), 1e-3)
    assert bench_module._summary("tiny", 1, "step", made, "cpu")[0]["ms"] == 1000


def test_product_flops_by_hand_and_by_counting(monkeypatch):
    assert product_flops(preset_config("tiny", 7, d_model=2, nhead=1, dim_feedforward=3), 1, 1, 1) == 2 * (
        (4*4 + 2*2 + 2*6) + (4*4 + 2*2) + (4*4 + 2*2) + 2*6 + 2*7)
    model, (source, target, _) = model_and_batch(False)
    counted = []
    class Counting(np.ndarray):
        def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
            plain = [x.view(np.ndarray) if isinstance(x, Counting) else x for x in inputs]
            if ufunc is np.matmul:
                counted.append(2 * np.prod(np.matmul(*plain).shape) * plain[0].shape[-1])
            return getattr(ufunc, method)(*plain, **kwargs).view(Counting)
    monkeypatch.setattr(textbook_module, "_split", lambda x, nhead: split_heads(x, nhead))  # a copy would no longer count
    plain = TextbookTransformer(model.config, model.get_parameters())
    plain.parameters = {n: a.view(Counting) for n, a in plain.parameters.items()}
    plain.decode(target, plain.encode(source)[0], source)
    assert sum(counted) == product_flops(model.config, *source.shape, target.shape[1])


RECORD = dict(preset="tiny", threads=1, clock="wall", kind="step", row="ours", label="transformer_nb", ms=4.0, ms_low=3.9, ms_high=4.2, ours_over=1.0, ours_over_low=1.0, ours_over_high=1.0,
    cores=1.0, peak_mb=45.0, import_mb=39.0, import_s=0.1, first_s=0.02, make_s=0.01, gflops=26.0, of_machine=0.25)
OTHER = RECORD | dict(row="torch_sdpa", label="PyTorch, SDPA + fused Adam", ms=8.0, ours_over=0.5, ours_over_low=0.45, ours_over_high=0.6, cores=0.5)


def test_table_and_plot():
    text = bench_table([RECORD, OTHER])
    assert "training step, tiny: d 32, 2 heads, 1+1 layers, d_ff 64, batch 64, length 12; 1 thread\n" in text
    assert re.search(r"PyTorch, SDPA \+ fused Adam +8\.00 +0\.50 \(0\.45–0\.60\)", text) and "25% of the machine's own rate" in text
    assert "took the processor away from: torch_sdpa" in text
    figure = plot_bench([RECORD, OTHER])
    (line,) = figure.axes[0].containers
    check_close(line.lines[0].get_xdata(), np.array([2.0]))
    for empty in ([], [RECORD]):
        with pytest.raises(ValueError, match="no row besides ours"):
            plot_bench(empty)
    with pytest.raises(ValueError, match="there are no records"):
        bench_table([])


def test_written_and_read(tmp_path):
    write_bench([RECORD, OTHER], tmp_path / "new", "transformer-nb bench")
    assert {p.name for p in (tmp_path / "new").iterdir()} == {"bench.csv", "bench.txt", "bench.json", "bench.png"}
    records, about = read_bench(tmp_path / "new")
    assert records == [RECORD, OTHER] and about["command"] == "transformer-nb bench" and about["numpy"] == np.__version__ and about["processor"]
    assert "transformer-nb bench" in (tmp_path / "new" / "bench.txt").read_text(encoding="utf-8")
    assert (tmp_path / "new" / "bench.png").read_bytes().startswith(b"\x89PNG")
    write_bench([RECORD], tmp_path / "alone")
    assert not (tmp_path / "alone" / "bench.png").exists()


def test_nothing_half_written_and_damaged_files(tmp_path):
    with pytest.raises(ValueError, match="no records"):
        write_bench([], tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(FileNotFoundError):
        read_bench(tmp_path)
    (tmp_path / "bench.json").write_text("{}")
    for damaged, message in (("", "the columns of nothing"), ("a,b\n1,2\n", "the columns a, b"), ("preset,threads,ms\ntiny,one,2\n", "is not a table of `write_bench`")):
        (tmp_path / "bench.csv").write_text(damaged)
        with pytest.raises(ValueError, match=message):
            read_bench(tmp_path)


WRONG = [
    (dict(presets=["huge"]), ValueError, "unknown preset 'huge'; allowed are tiny, small, base, paper"),
    (dict(presets=[]), ValueError, "unknown preset None"),
    (dict(threads=0), ValueError, "threads=0; it must be at least 1"),
    (dict(threads=1.5), TypeError, "threads=1.5"),
    (dict(threads=10_000), ValueError, "threads=10000; this machine has"),
    (dict(repeats=0), ValueError, "repeats=0; it must be at least 1"),
    (dict(seconds=0), ValueError, "seconds=0; above 0 and at most 60 is needed"),
    (dict(seconds=float("nan")), ValueError, "seconds=nan"),
    (dict(seconds="1"), TypeError, "seconds='1'"),
    (dict(clock="sundial"), ValueError, "clock='sundial' with threads=1; allowed are 'wall', and with one thread 'cpu'"),
    (dict(clock="cpu", threads=2), ValueError, "clock='cpu' with threads=2"),
    (dict(rows=["steps"]), ValueError, "unknown rows 'steps'; known are the kinds step, forward, decode, calls and the rows ours, textbook"),
    (dict(rows=["sgemm"]), ValueError, "unknown rows 'sgemm'"),
    (dict(rows=["undo_relu"]), ValueError, "unknown rows 'undo_relu'"),
]


@pytest.mark.parametrize("wrong, error, message", WRONG, ids=[str(w[0]) for w in WRONG])
def test_wrong_use(wrong, error, message, monkeypatch):
    if wrong.get("threads") == 2:
        monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(bench_module, "_Worker", None)  # nothing may be started
    with pytest.raises(error, match=re.escape(message)):
        run_bench(**wrong)
    if not {"rows", "threads"} & wrong.keys():
        with pytest.raises(error, match=re.escape(message)):
            run_ablation(**wrong)


def test_without_the_extras(monkeypatch):
    monkeypatch.setattr(bench_module, "_installed", lambda modules: not modules)
    with pytest.raises(ValueError, match=re.escape("row torch_sdpa needs torch: pip install 'transformer-nb[torch]'")):
        run_bench(rows=["torch_sdpa"])
    with pytest.raises(ValueError, match=re.escape("row jax needs jax and optax: pip install 'transformer-nb[jax]'")):
        run_bench(rows=["jax"])
    said = []
    records = run_bench(["tiny"], rows=["step"], report=said.append, **QUICK)
    assert [r["row"] for r in records] == ["ours", "textbook", "sgemm"]
    assert "left out, because torch is not installed: torch_layers, torch_nn, torch_sdpa, torch_compile" in said


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_two_threads_are_compared_with_one():
    records = run_bench(["tiny"], threads=2, rows=["ours"], report=lambda line: None, **QUICK)
    assert [(r["row"], r["threads"]) for r in records] == [("ours", 2), ("ours@1", 1), ("sgemm", 2)]
    assert "transformer_nb, 1 thread" in bench_table(records)


def run(*argv):
    parser = argparse.ArgumentParser()
    add_bench(parser.add_subparsers())
    args = parser.parse_args(["bench", *map(str, argv)])
    return args.run(args)


def test_command(tmp_path, capsys):
    assert run("--preset", "tiny", "--rows", "textbook,decode" if not any(HAS.values()) else "textbook,ours_beam", "--repeats", 2, "--seconds", 0.01, "--out", tmp_path / "a" / "b") == 0
    out = capsys.readouterr().out
    assert "ours agrees" in out and "beam of 4" in out and f"wrote bench.csv, .txt, .json and .png to {tmp_path / 'a' / 'b'}" in out
    records, about = read_bench(tmp_path / "a" / "b")
    assert {r["row"] for r in records} >= {"ours", "textbook", "ours_decode", "ours_beam", "sgemm"}
    assert about["command"].startswith("transformer-nb bench --preset tiny --rows ") and "--repeats 2 --seconds 0.01" in about["command"]


def test_command_wrong_use(tmp_path, made_up, capsys):
    for wrong, message in ((["--preset", "tiny,tinier"], "'tinier'"), (["--threads", 0], "threads=0"), (["--rows", "x"], "unknown rows 'x'"), (["--ablation", "--rows", "step,decode"], "--ablation takes neither")):
        with pytest.raises(ValueError, match=message):
            run(*wrong, "--out", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        run("--out", tmp_path / "file")
    assert run("--preset", "tiny", "--rows", "dies", "--out", tmp_path) == 1
    assert "row dies" in capsys.readouterr().err and [p.name for p in tmp_path.iterdir() if p.name.startswith("bench.")] == []


@pytest.mark.parametrize("name", [n for n, u in UNDONE.items() if u.targets])
def test_what_a_rule_replaces_is_used_in_a_step(name, monkeypatch):
    called = set()
    case = Case("tiny")
    def counting(i, wrong):
        def replacement(*args, **kwargs):
            called.add(i)
            return wrong(*args, **kwargs)
        return replacement
    targets = tuple((counting(i, wrong), *target) for i, (wrong, *target) in enumerate(UNDONE[name].targets))
    monkeypatch.setitem(UNDONE, name, UNDONE[name]._replace(targets=targets))
    step, _ = ablation_module._undone_step(case, name)
    step()
    vars(step)["patches"].close()
    assert called == set(range(len(targets))), f"{name}: only {sorted(called)} of {len(targets)} replacements were called"


def test_undone_rules_compute_the_same():
    said = []
    check_rows(["ours", *(f"undo_{n}" for n in UNDONE)], "tiny", said.append)
    assert len(said) == 1 + len(UNDONE)


def test_undone_dropout_drops_as_much():
    mask = PRIVATE["_float_mask"](None, np.random.SFC64(0), (400, 500), 0.1)
    assert mask.dtype == np.float32 and abs((mask == 0).mean() - 0.1) < 0.004 and abs(mask.mean() - 1) < 0.01


def test_ablation_command(tmp_path, capsys):
    assert run("--ablation", "--preset", "tiny", "--repeats", 2, "--seconds", 0.005, "--out", tmp_path) == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "ablation.csv").read_text(encoding="utf-8"))))
    assert {int(r["rule"]) for r in rows} == set(range(1, 13)) and all(float(r["ratio"]) > 0 for r in rows)
    assert json.loads((tmp_path / "ablation.json").read_text())["command"] == "transformer-nb bench --preset tiny --repeats 2 --seconds 0.005 --ablation"
    assert "everything in float64" in (tmp_path / "ablation.txt").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="no records"):
        ablation_table([])
    with pytest.raises(ValueError, match="no records"):
        write_ablation([], tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_ratios_with_a_wide_margin():
    "Processor time, so that other programs do not decide; the bars are far from what was measured."
    rows = ["textbook"] + ["torch_sdpa", "torch_nn"] * HAS["torch"]
    records = run_bench(["tiny", "small"], rows=rows, repeats=9, clock="cpu", report=lambda line: None)
    ratio = {(r["preset"], r["row"]): r["ours_over"] for r in records}
    for preset in ("tiny", "small"):
        assert ratio[preset, "textbook"] < 0.9, ratio
        if HAS["torch"]:
            assert ratio[preset, "torch_sdpa"] < 1.1 and ratio[preset, "torch_nn"] < 1.0, ratio
    decoding = run_bench(["small"], rows=["ours_decode_uncached"], repeats=5, clock="cpu", report=lambda line: None)
    assert next(r["ours_over"] for r in decoding if r["row"] == "ours_decode_uncached") < 0.7
    memory = {r["row"]: r["peak_mb"] for r in records if r["preset"] == "small"}
    if HAS["torch"]:
        assert memory["ours"] < 0.35 * memory["torch_sdpa"]


def test_shapes_are_presets():
    assert list(SHAPES) == ["tiny", "small", "base", "paper"] and all(isinstance(r, Row) for r in ROWS.values())
