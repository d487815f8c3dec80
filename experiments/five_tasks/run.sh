#!/usr/bin/env bash
# Trains and compares everything of this study; what is trained already is reused. From the checkout:
#   make study NAME=five_tasks
set -euo pipefail

here=experiments/five_tasks
out=${OUT:-outputs/studies}/five_tasks
tasks=(people_a swap people_b rotate ends)
sweep() {  # NAME OVERRIDES...: three seeds, three jobs at a time
    local name=$1
    shift
    python -m osftx -m --config-dir "$here" +experiment=five_tasks "$@" name="$name" training.seed=42,43,44 \
        'evaluation.every_steps=20' \
        distributed.nproc_per_node=1 hydra/launcher=joblib hydra.launcher.n_jobs=3 "store_dir=$out/store" "hydra.sweep.dir=$out/$name"
}
sft=(training.eps=1e-8)
replay=()
earlier=experiments/tiny/data/base_keep.jsonl
for task in "${tasks[@]}"; do
    rate=1e-4
    [[ $task == people* ]] && rate=2e-4
    sft+=("phases.$task.method=sft" "phases.$task.learning_rate=$rate")
    replay+=("phases.$task.replay.sources=[$earlier]" "phases.$task.replay.ratio=0.1")
    earlier+=,$task
done

python experiments/five_tasks/make_data.py --output outputs/studies/five_tasks/data
sweep osft_by_weights
sweep osft_by_weights_constant schedule=constant
sweep osft_by_activations osft.subspace=activations
sweep osft_by_activations_constant osft.subspace=activations schedule=constant
sweep sft "${sft[@]}"
sweep sft_replay_10_percent "${sft[@]}" "${replay[@]}"
python -m osftx.compare "$out"/osft* "$out"/sft* --output "$here"
