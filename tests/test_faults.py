"The checklist passes on our code, and under every fault of the catalogue one of its checks fails: the tests are tested."
import sys

import pytest

from transformer_nb.proof import CHECKS, FAULTS, Fault, caught_by, run_checks

NAMED = [  # what every such catalogue has to hold; others may be added
    "cross-attention with queries from the encoder", "loss gradient too large by T", "mean over padded tokens", "√D missing in the embedding's gradient",
    "dW[ids] += g for repeated ids", "gradient assigned instead of accumulated", "tied embedding counted once",
    "encoder memory's gradient only from the last block", "residual path forgotten in backward", "bias gradient summed over the batch but not time",
    "LayerNorm backward without the variance path", "LayerNorm backward without the mean path", "LayerNorm with ddof 1", "LayerNorm with eps outside the root",
    "missing final norm in pre-norm", "post-norm prose with pre-norm code", "scores scaled by √D", "scores not scaled at all", "softmax over the wrong axis",
    "softmax without max subtraction", "mask on query rows instead of key columns", "causal mask off by one, into the future",
    "causal mask off by one, into the past", "causal mask absent", "causal mask inverted", "fill value −1e4 that scores can undercut",
    "fully masked row attends uniformly", "heads merged without transposing back", "decoder input not shifted", "<eos> after the padding",
    "unknown characters dropped in silence", "label smoothing mass on padding", "smoothing that gives inf on an all-padding batch", "log(softmax + 1e-10)",
    "dropout without rescaling", "dropout active in eval", "dropout redrawn in backward", "Adam without bias correction", "Adam with eps inside the root",
    "Adam with L2 instead of decoupled decay", "clipping per parameter instead of globally", "sine and cosine exchanged",
    "sines in one half, cosines in the other", "sinusoids with another base", "positions restarting at 0 when decoding step by step",
    "mask built from the wrong side's lengths", "checkpoint loaded with transposed weights of square shape", "data split that leaks held-out strings",
]
caught = {}  # name of a fault → the first check that failed


def bindings():
    "What every name in every module of the package is bound to, and every attribute of its classes."
    ours = {n: vars(m) for n, m in list(sys.modules.items()) if n.partition(".")[0] == "transformer_nb"}
    classes = {id(v): v for names in ours.values() for v in names.values() if isinstance(v, type) and v.__module__.startswith("transformer_nb")}
    return {(n, k): id(v) for n, names in ours.items() for k, v in names.items()} | {(c, k): id(v) for c in classes.values() for k, v in vars(c).items()}


@pytest.mark.parametrize("name", CHECKS)
def test_check_passes_on_our_code(name):
    assert run_checks([name]) == {name: None}


def test_catalogue():
    assert len(FAULTS) >= 40
    assert not set(NAMED) - set(FAULTS)
    assert all(isinstance(f, Fault) and f.name == name and f.met for name, f in FAULTS.items())


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_caught(name):
    before = bindings()
    found = caught_by(FAULTS[name], first=True)
    assert bindings() == before  # the fault is gone
    assert found, "no check fails under this fault"
    caught[name] = found[0]


def test_all_faults_together(capsys):
    assert not any(run_checks().values())  # nothing is left of them
    with capsys.disabled():
        print(f"\n{len(FAULTS)} faults, {len(caught)} caught")
    if len(caught) < len(FAULTS):
        pytest.skip("not all faults were tried in this run")


def test_a_name_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="unknown checks"):
        run_checks(["linear: by heart"])
    with pytest.raises(TypeError, match="a list of names"):
        run_checks("linear: by loop")
    with pytest.raises(TypeError, match="a Fault is needed"):
        caught_by("mean over padded tokens")
