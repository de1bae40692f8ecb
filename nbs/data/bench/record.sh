#!/bin/sh
# The figures of chapters 66, 83 and 84: sh nbs/data/bench/record.sh, from the root, with the extras torch and jax, on a machine that has nothing else to do.
# About half an hour. Each run states its command, machine and versions in bench.json.
set -e
out=nbs/data/bench
for preset in tiny small base; do transformer-nb bench --preset $preset "$@" --out $out/$preset; done
transformer-nb bench --preset paper --rows step --repeats 7 "$@" --out $out/paper
transformer-nb bench --preset base --rows step --threads 2 --out $out/two_threads
transformer-nb bench --preset tiny --rows calls "$@" --out $out/calls
transformer-nb bench --ablation "$@" --out $out/ablation
rm $out/*/bench.png
