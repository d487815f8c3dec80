#!/usr/bin/env bash
# Trains and compares everything of this study; what is trained already is reused. From the checkout:
#   make study NAME=subspace_by_activations
#   PARTS="size mismatch" SEEDS=42 make study NAME=subspace_by_activations     # some parts; fewer seeds
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

rates() {  # the same multiples of the experiment's learning rates for each method, one seed: phase 1 by phase 2
    local osft=(+experiment=tiny_two_phase phases.knowledge.learning_rate=5e-3,1e-2,2e-2
        phases.skills.learning_rate=7e-3,1.4e-2,2.8e-2)
    local sft=(+experiment=tiny_lab_two_phase phases.knowledge.learning_rate=1e-4,2e-4,4e-4
        phases.skills.learning_rate=5e-5,1e-4,2e-4)
    local SEEDS=42
    sweep rates/weights "${osft[@]}"
    sweep rates/activations "${osft[@]}" osft.subspace=activations
    sweep rates/sft "${sft[@]}" phases.skills.replay.ratio=0
}

mkdir -p "$data"
python "$here/make_data.py" --output "$data"
[ -f "$data/keep_generated.jsonl" ] || python "$here/generate.py" --output "$data/keep_generated.jsonl"
for part in ${PARTS:-size mismatch known rates}; do
    "$part"
done
written() { python "$here/$1.py" "$out" --output "$here"; }
if [ -d "$out/size" ]; then    # what the other sets are compared with
    for page in tables by_task foreseen; do written $page; done
fi
[ ! -d "$out/rates" ] || written rates
