#!/usr/bin/env bash
# Trains and compares everything of this study; what is trained already is reused. From the checkout:
#   make study NAME=trained_rest
set -euo pipefail

here=experiments/trained_rest
out=${OUT:-outputs/studies}/trained_rest
sweep() {  # NAME OVERRIDES...: three seeds, three jobs at a time
    local name=$1
    shift
    python -m osftx -m +experiment=tiny_two_phase "$@" name="$name" training.seed=42,43,44 \
        evaluation.every_steps=10 distributed.nproc_per_node=1 hydra/launcher=joblib hydra.launcher.n_jobs=3 \
        "store_dir=${OUT:-outputs/studies}/rivals/store" "hydra.sweep.dir=$out/$name" ||
        echo "$name: some job failed; what is done is compared"    # a diverging one is a result, too
}

for subspace in weights activations; do
    sweep "${subspace}_frozen" "osft.subspace=$subspace"
    sweep "${subspace}_trained" "osft.subspace=$subspace" osft.train_others=true
    # The learning rate of the updates is far above what the embeddings stand: once more at plain fine-tuning's.
    sweep "${subspace}_trained_slowly" "osft.subspace=$subspace" osft.train_others=true \
        training.learning_rate=1e-3 phases.skills.learning_rate=1e-3
    sweep "${subspace}_frozen_slowly" "osft.subspace=$subspace" training.learning_rate=1e-3 phases.skills.learning_rate=1e-3
done
python -m osftx.compare "$out"/* --at 0.9 --output "$here"
