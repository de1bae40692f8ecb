"""The curves of chapter 57: train runs that fail, each beside a healthy twin that differs from it in one thing.

    python nbs/data/failures/measure.py                     every group, three seeds
    python nbs/data/failures/measure.py masks --seeds 0     one group, one seed

Writes one JSON file for each group beside this script; runs that are there already are kept. A run takes 4 to 15 seconds on one core.
Every size is written down here, so that no recipe of a task can change these runs. Set OMP_NUM_THREADS=1.
"""
import argparse
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import numpy as np

from transformer_nb.attention import multi_head
from transformer_nb.attention.masks import make_masks
from transformer_nb.attention.scaled_dot_product import attention_weights, attention_weights_bwd
from transformer_nb.experiments.attention_over_time import sharpness
from transformer_nb.foundations.base import make_rng, spawn_seeds, write_atomically
from transformer_nb.layers import embedding
from transformer_nb.layers.embedding import embed_bwd
from transformer_nb.learning.decoding import predict
from transformer_nb.learning.tasks import get_task
from transformer_nb.learning.training import Trainer, TrainingConfig
from transformer_nb.model.transformer import Transformer, TransformerConfig
from transformer_nb.speed.bench import about_machine

HERE = Path(__file__).parent
LONGEST = 8
SIZES = dict(d_model=64, nhead=4, num_encoder_layers=2, num_decoder_layers=2, dim_feedforward=256, dropout=0.0, norm_first=True)
TRAINING = dict(
    steps=400, batch_size=32, lr=4e-3, warmup=50, schedule="warmup_cosine", optimizer="adam", betas=(0.9, 0.98), eps=1e-9,
    momentum=0.0, clip_norm=1.0, label_smoothing=0.0, pool=1, eval_every=20, eval_size=200,
)
FOUR, SIX = (dict(num_encoder_layers=n, num_decoder_layers=n) for n in (4, 6))
POST = dict(norm_first=False)
UNCLIPPED = dict(clip_norm=1e30)
RAW = dict(switch="raw scores")
SGD = dict(optimizer="sgd", momentum=0.9)

# group: {run: what differs from SIZES and TRAINING}; "switch" names one of SWITCHES, "std" is the size of the embeddings' rows at the start,
# "shrink" divides Wq by √Dh at the start, "slow" each step of Wq and bq
GROUPS = {
    "norm": {
        f"{'pre' if norm_first else 'post'}-norm, {'warm-up' if warmup else 'none'}, {lr:g}": FOUR | dict(norm_first=norm_first, warmup=warmup, lr=lr)
        for lr in (4e-3, 2e-3, 1e-3) for norm_first in (True, False) for warmup in (50, 0)
    } | {"six, pre-norm, none, 0.004": SIX | dict(warmup=0), "six, post-norm, warm-up, 0.004": SIX | POST},
    "rate": {f"adam, {lr:g}": dict(lr=lr) for lr in (1e-3, 4e-3, 8e-3, 16e-3, 32e-3, 64e-3, 0.128, 2.0)}
        | {f"adam, {lr:g}, unclipped": dict(lr=lr) | UNCLIPPED for lr in (16e-3, 2.0)}
        | {f"sgd, {lr:g}{name}": dict(lr=lr) | SGD | clip for lr in (0.3, 3.0) for name, clip in (("", {}), (", unclipped", UNCLIPPED))},
    "scores": {
        f"heads {heads}, {kind}": dict(nhead=heads) | change
        for heads in (16, 4, 1)
        for kind, change in {"scaled": {}, "raw": RAW, "raw, small start": RAW | dict(shrink=True), "raw, small steps": RAW | dict(slow=True)}.items()
        if heads == 1 or "small" not in kind
    },
    "embedding": {
        f"{kind}, {lr:g}": dict(lr=lr) | change
        for lr in (4e-3, 1e-3)
        for kind, change in {
            "times √D, start 0.16": {}, "times √D, start 0.02": dict(std=0.02 / 8), "times √D, start 8": dict(std=1.0),
            "times 1, start 0.16": dict(switch="no √D", std=0.02 * 8), "times 1, start 0.02": dict(switch="no √D"),
        }.items()
    },
    "masks": {"all masks": {}, "no causal mask": dict(switch="no causal mask"), "no padding mask": dict(switch="no padding mask")},
}


class NoCausalMask(Transformer):
    "The decoder may look at the whole answer while it is trained; padding stays hidden."
    def forward(self, source, target, masks=None):
        real = (target != self.config.pad_id)[:, None, None]
        return super().forward(source, target, make_masks(source, target)._replace(target=real))


class NoPaddingMask(Transformer):
    "Nobody hides the padding of the source, neither in training nor in use."
    def encode(self, source, mask=None, offset=0):
        return super().encode(source, None, offset)

    def decode(self, target, memory, mask=None, memory_mask=None, caches=None, offset=0):
        return super().decode(target, memory, mask, None, caches, offset)


def raw_weights(q, k, mask=None):
    "softmax(qkᵀ): the queries are made √Dh times as large, which undoes the division."
    return attention_weights(q * q.dtype.type(q.shape[-1] ** 0.5), k, mask)


def raw_weights_bwd(dw, w, q, k):
    root = q.dtype.type(q.shape[-1] ** 0.5)
    dq, dk = attention_weights_bwd(dw, w, q * root, k)
    return dq * root, dk


def plain_embed(ids, E):
    return E[ids]


def plain_embed_bwd(dy, ids, vocab_size):
    return embed_bwd(dy, ids, vocab_size) / dy.dtype.type(dy.shape[-1] ** 0.5)


SWITCHES = {  # name: (class of the model, what is replaced while the run lasts)
    None: (Transformer, nullcontext),
    "no causal mask": (NoCausalMask, nullcontext),
    "no padding mask": (NoPaddingMask, nullcontext),
    "raw scores": (Transformer, lambda: patch.multiple(multi_head, attention_weights=raw_weights, attention_weights_bwd=raw_weights_bwd)),
    "no √D": (Transformer, lambda: patch.multiple(embedding, embed=plain_embed, embed_bwd=plain_embed_bwd)),
}


class WatchedTrainer(Trainer):
    "A trainer whose history also has the median norm of the gradient before clipping, and the share of the steps that were clipped, since the last row."
    norms = ()
    slow, root = (), 1.0  # parameters whose steps are divided by a root

    def train_step(self, batch):
        old = [p.data.copy() for p in self.slow]
        loss, norm = super().train_step(batch)
        for p, start in zip(self.slow, old):
            p.data[...] = start + (p.data - start) / self.root
        self.norms = (*self.norms, norm)
        return loss, norm

    def record(self, norm):
        super().record(norm)
        self.history[-1] |= dict(grad_norm=float(np.median(self.norms)), clipped=float(np.mean(np.array(self.norms) > self.config.clip_norm)))
        self.norms = ()


def make(seed, model=Transformer, std=None, shrink=False, slow=False, **changes):
    "A trainer in which everything is as in SIZES and TRAINING but for the changes."
    settings = SIZES | TRAINING | changes
    task = get_task("reverse", max_len=LONGEST)
    tokenizer = task.tokenizer()
    net = model(TransformerConfig(len(tokenizer), **{n: settings[n] for n in SIZES}), tokenizer, spawn_seeds(seed, 2)[0])
    if std is not None:
        for table in (net.source_embedding.E, net.target_embedding.E):
            table.data *= std / 0.02
    root = (net.config.d_model // net.config.nhead) ** 0.5
    if shrink:
        for attention in attentions(net):
            attention.Wq.data /= root
    trainer = WatchedTrainer(net, task, TrainingConfig(seed=seed, **{n: settings[n] for n in TRAINING}))
    if slow:
        trainer.slow, trainer.root = [p for a in attentions(net) for p in (a.Wq, a.bq)], root
    return trainer


def attentions(net):
    return [b.self_attention for b in net.encoder.blocks] + [a for b in net.decoder.blocks for a in (b.self_attention, b.cross_attention)]


def mean_sharpness(net):
    "How much all heads have made up their minds, over five words."
    words = ["pictures", "hardship", "eighteen", "keyboard", "universe"]
    return float(np.mean([sharpness(net.attention_maps(w, w[::-1])[kind][0]).mean() for w in words for kind in ("encoder", "cross")]))


def company(net, seed):
    "Exact match by length, 1 to LONGEST: each word alone or with words of its length, and in a batch with one of LONGEST letters. Words seen or not."
    rng = make_rng(seed)
    scores = {"alone": [], "in company": []}
    for n in range(1, LONGEST + 1):
        words = [s for s, _ in get_task("reverse", min_len=n, max_len=n).sample(rng, 200)]
        for kind, others in (("alone", []), ("in company", ["q" * LONGEST])):
            answers = predict(net, words + others)[: len(words)]
            scores[kind].append(round(float(np.mean([a == w[::-1] for a, w in zip(answers, words)])), 3))
    return scores


def measure(group, run, seed, until=None):
    "One run as it is stored."
    changes = dict(GROUPS[group][run])
    model, switched = SWITCHES[changes.pop("switch", None)]
    with switched():
        trainer = make(seed, model, **changes)
        sharp, broken = [], None
        look = [lambda t: sharp.append(round(mean_sharpness(t.model), 3))] if group == "scores" else []
        try:
            trainer.fit(until, progress=False, callbacks=look)
        except FloatingPointError:
            broken = trainer.step + 1
        rows = trainer.history
        result = dict(run=run, seed=seed, changes=GROUPS[group][run], step=[r["step"] for r in rows])
        for name, digits in (("loss", 4), ("exact_match", 3), ("grad_norm", 4), ("clipped", 2)):
            result[name] = [round(r[name], digits) if np.isfinite(r[name]) else None for r in rows]
        result["lr"] = [float(f"{r['lr']:.3g}") for r in rows]
        if broken:
            result["not_finite_at"] = broken
        if group == "scores":
            result["sharpness"] = sharp
        if group == "masks" and until is None:
            result["by_length"] = company(trainer.model, seed)
            if run == "all masks":
                trainer.model.__class__ = NoPaddingMask  # trained with the mask, used without
                result["by_length_unmasked"] = company(trainer.model, seed)
    return result


def store(file, about, runs):
    "One run per line."
    lines = ",\n".join(json.dumps(r, ensure_ascii=False, separators=(",", ":")) for r in runs)
    write_atomically(file, (json.dumps(about, ensure_ascii=False)[:-1] + f', "runs": [\n{lines}\n]}}\n').encode())


def main():
    p = argparse.ArgumentParser(description="Train the runs of chapter 57 and store their curves.")
    p.add_argument("groups", nargs="*", default=list(GROUPS), help=f"of {', '.join(GROUPS)}; by default all")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = p.parse_args()
    if unknown := [g for g in args.groups if g not in GROUPS]:
        p.error(f"unknown: {', '.join(unknown)}")
    for group in args.groups:
        file = HERE / f"{group}.json"
        old = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"runs": []}
        about = dict(command=f"python nbs/data/failures/measure.py {group}", sizes=SIZES, training=TRAINING | {"betas": list(TRAINING["betas"])}, longest=LONGEST,
            machine=about_machine())
        runs = {(r["run"], r["seed"]): r for r in old["runs"]}
        for seed in args.seeds:
            for run in GROUPS[group]:
                if (run, seed) in runs:
                    continue
                runs[run, seed] = r = measure(group, run, seed)
                order = [(n, s) for n in GROUPS[group] for s in sorted({s for _, s in runs})]
                store(file, about, [runs[k] for k in order if k in runs])
                print(f"{group}: {run}, seed {seed}: loss {r['loss'][-1:]}, exact match {r['exact_match'][-1:]}", *([f"not finite at step {r['not_finite_at']}"] if "not_finite_at" in r else []), flush=True)


if __name__ == "__main__":
    sys.exit(main())
