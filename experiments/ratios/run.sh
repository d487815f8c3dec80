#!/usr/bin/env bash
# Trains and compares everything of this study; what is trained already is reused. From the checkout:
#   make study NAME=ratios
set -euo pipefail

here=experiments/ratios
out=${OUT:-outputs/studies}/ratios
python -m osftx -m +experiment=tiny_two_phase name=ratios osft.subspace=weights,activations \
    schedule.initial=0.2,0.3,0.4,0.5 schedule.reduction=0,0.1 osft.rank_allocation=uniform,layer_importance \
    'objective=[summary.learning_accuracy,summary.forgetting]' evaluation.every_steps=10 \
    distributed.nproc_per_node=1 hydra/launcher=joblib hydra.launcher.n_jobs=2 \
    "store_dir=${OUT:-outputs/studies}/rivals/store" "hydra.sweep.dir=$out"
python -m osftx.compare "$out"/{0..15} --at 0.9 --output "$here/weights"        # the jobs in the order of the grid
python -m osftx.compare "$out"/{16..31} --at 0.9 --output "$here/activations"
cp "$out"/figures/front.png "$here"
