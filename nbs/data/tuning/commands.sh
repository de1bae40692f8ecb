#!/bin/sh
# The studies of chapter 55, run in this folder. One that was stopped goes on with its --out and --resume alone.
set -e
transformer-nb tune reverse --space space.txt --trials 96 --budget 240 --rungs 5 --eta 2 --finalists 8 --seeds 5 --out pool
transformer-nb tune reverse --space space.txt --method grid --trials 16 --budget 240 --seeds 5 --out grid
transformer-nb tune reverse --space space.txt --method halving --trials 32 --budget 240 --rungs 3 --eta 2 --seeds 5 --out halving
transformer-nb tune reverse --space space.txt --trials 96 --budget 60 --seeds 0 --out short
transformer-nb tune reverse --space landscape.txt --method grid --trials 64 --budget 240 --seeds 0 --out landscape
