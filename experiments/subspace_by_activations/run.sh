#!/usr/bin/env bash
# Trains and compares everything of this study; what is trained already is reused. From the checkout:
#   make study NAME=subspace_by_activations
#   PARTS="size mismatch" SEEDS=42 make study NAME=subspace_by_activations     # some of: size mismatch known; fewer seeds
set -euo pipefail

here=experiments/subspace_by_activations
out=${OUT:-outputs/studies}/subspace_by_activations
data=$out/data
sweep() {  # NAME OVERRIDES...: seed by seed, two jobs at a time
    local name=$1 seed
    shift
    for seed in ${SEEDS:-42 43 44}; do
        python -m osftx -m "$@" "training.seed=$seed" distributed.nproc_per_node=1 hydra/launcher=joblib \
            hydra.launcher.n_jobs=2 "store_dir=$out/store" "hydra.sweep.dir=$out/$name/$seed"
    done
}

size() {  # conversations of preserve.data
    sweep size +experiment=tiny_two_phase osft.subspace=activations preserve.data.limit=24,64,256,500
}

mismatch() {  # preserve.data of another kind than what the base was trained on
    local kinds=$data/keep_reverse.jsonl,$data/keep_letters.jsonl,$data/keep_generated.jsonl,$data/keep_facts.jsonl
    sweep mismatch +experiment=tiny_two_phase osft.subspace=activations "preserve.data.path=$kinds"
}

known() {  # one phase: a skill that is announced by words that the base knows
    local phase=('~phases.knowledge' '~evaluation.sets.knowledge' "phases.skills.data.path=$data/known_train.jsonl"
        "evaluation.sets.skills.path=$data/known_eval.jsonl" phases.skills.num_epochs=12 evaluation.every_steps=25)
    local osft=(+experiment=tiny_two_phase "${phase[@]}")
    local sft=(+experiment=tiny_lab_two_phase "${phase[@]}" 'phases.skills.replay.sources=[experiments/tiny/data/base_keep.jsonl]')
    sweep known/sft "${sft[@]}" phases.skills.replay.ratio=0,0.1
    sweep known/activations "${osft[@]}" osft.subspace=activations schedule.initial=0.3,0.5
    sweep known/weights "${osft[@]}" schedule.initial=0.3
    python -m osftx.compare --label "plain fine-tuning=$out/known/sft/*/0" --label "replay of 10%=$out/known/sft/*/1" \
        --label "activations, 0.3=$out/known/activations/*/0" --label "activations, 0.5=$out/known/activations/*/1" \
        --label "weights, 0.3=$out/known/weights/*/0" --output "$here/known"
}

mkdir -p "$data"
python "$here/make_data.py" --output "$data"
[ -f "$data/keep_generated.jsonl" ] || python "$here/generate.py" --output "$data/keep_generated.jsonl"
for part in ${PARTS:-size mismatch known}; do
    "$part"
done
if [ -d "$out/size" ]; then    # what the other sets are compared with
    python "$here/tables.py" "$out" --output "$here"
    python "$here/by_task.py" "$out" --output "$here"
fi
