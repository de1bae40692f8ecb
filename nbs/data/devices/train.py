"""Data-parallel training on whatever devices JAX finds, on one host or on several.

One process, all of its devices (CPUs can be split: XLA_FLAGS=--xla_force_host_platform_device_count=8):
    python nbs/data/devices/train.py --out parameters.npz
Several processes, the same command on each host but for --process:
    python nbs/data/devices/train.py --coordinator HOST:PORT --processes 2 --process 0 --out parameters.npz
Prints the losses as JSON; the first process writes the parameters."""
import argparse
import json

import jax
import numpy as np

from transformer_nb.learning import make_trainer
from transformer_nb.twin.devices import make_mesh, train_parallel

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--coordinator", help="address of the first process, HOST:PORT")
parser.add_argument("--processes", type=int, default=1)
parser.add_argument("--process", type=int, default=0)
parser.add_argument("--steps", type=int, default=5)
parser.add_argument("--batch-size", type=int, default=12)
parser.add_argument("--dtype", default="float64", choices=["float32", "float64"])
parser.add_argument("--out")
args = parser.parse_args()

if args.processes > 1:
    jax.distributed.initialize(args.coordinator, args.processes, args.process)  # before anything asks for a device
trainer = make_trainer("reverse", seed=0, max_len=6, d_model=16, nhead=2, dim_feedforward=32, num_encoder_layers=1, num_decoder_layers=1,
    dropout=0.1, dtype=args.dtype, steps=50, warmup=2, batch_size=args.batch_size)
with jax.enable_x64(args.dtype == "float64"):
    params, losses = train_parallel(trainer, make_mesh(), args.steps)
if args.process == 0:
    print(json.dumps(dict(devices=len(jax.devices()), processes=jax.process_count(), platform=jax.devices()[0].platform, losses=losses)))
    if args.out:
        np.savez(args.out, **params)
