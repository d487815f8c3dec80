#!/usr/bin/env bash
# Trains and compares everything of this study; what is trained already is reused. From the checkout:
#   make study NAME=rivals
#   BASES=long SKILLS=ends METHODS="sft osft_by_weights" make study NAME=rivals     # a part of it
set -euo pipefail

here=experiments/rivals
out=${OUT:-outputs/studies}/rivals
declare -A bases=([long]=experiments/tiny/base [short]=$out/short_base [undecayed]=$out/undecayed_base
    [larger]=$out/larger_base)
declare -A data=([ends]=experiments/tiny/data [swap]=$out/swap_data)
lab="+experiment=tiny_lab_two_phase phases.skills.replay.sources=[experiments/tiny/data/base_keep.jsonl,knowledge]"
declare -A settings=(
    [sft]="$lab phases.skills.replay.ratio=0"
    [sft_replay_1_percent]="$lab phases.skills.replay.ratio=0.01"
    [sft_replay_10_percent]="$lab phases.skills.replay.ratio=0.1"
    [sft_replay_all]="$lab phases.skills.replay.ratio=1"
    [osft_by_weights]="+experiment=tiny_two_phase"
    [osft_by_activations]="+experiment=tiny_two_phase osft.subspace=activations"
)
order=(sft sft_replay_1_percent sft_replay_10_percent sft_replay_all osft_by_weights osft_by_activations)
declare -A skills=([long]="ends swap" [short]="ends swap" [undecayed]=ends [larger]=ends)

train_base() {  # NAME OPTIONS...: unless it is there
    local name=$1
    shift
    [ -d "${bases[$name]}" ] || python experiments/tiny/train_base.py "$@" --output "${bases[$name]}" \
        --checkpoint "$out/${name}_base.pt"
}

train_bases() {  # those of "$@"; `long` is shipped
    local base
    for base in "$@"; do
        case $base in
            short) train_base short --steps 800 ;;
            undecayed) train_base undecayed --weight-decay 0 ;;
            larger) train_base larger --hidden-size 256 --layers 5 --steps 1250 --learning-rate 1e-3 ;;
        esac
    done
}

sweep() {  # NAME BASE SKILL OVERRIDES...: three seeds, JOBS jobs at a time
    local name=$1 base=$2 skill=$3
    shift 3
    python -m osftx -m "$@" name="$name" training.seed=42,43,44 "model.path=${bases[$base]}" \
        "phases.skills.data.path=${data[$skill]}/skills_train.jsonl" \
        "evaluation.sets.skills.path=${data[$skill]}/skills_eval.jsonl" \
        evaluation.every_steps=10 distributed.nproc_per_node=1 hydra/launcher=joblib \
        "hydra.launcher.n_jobs=${JOBS:-3}" "store_dir=$out/store" "hydra.sweep.dir=$out/$base/$skill/$name"
}

mkdir -p "$out"
python experiments/tiny/make_data.py --skill swap --output "${data[swap]}"
read -ra chosen <<< "${BASES:-long short undecayed larger}"
train_bases "${chosen[@]}"

for base in "${chosen[@]}"; do
    for skill in ${SKILLS:-${skills[$base]}}; do
        for method in ${METHODS:-${order[@]}}; do
            read -ra overrides <<< "${settings[$method]}"
            sweep "$method" "$base" "$skill" "${overrides[@]}"
        done
        compared=()
        for method in "${order[@]}"; do
            [ ! -d "$out/$base/$skill/$method" ] || compared+=("$out/$base/$skill/$method")
        done
        python -m osftx.compare "${compared[@]}" --output "$here/$base/$skill"
    done
done
