#!/usr/bin/env bash
# Every figure of experiments/performance, on this machine: benchmarks/run.sh FOLDER [cpu|cuda]
# On a GPU the hidden sizes are those of a 1B and of an 8B Llama, two layers each, in bf16 with Liger and packing.
set -euo pipefail

out=$1 device=${2:-cpu}
here=$(dirname "$0")
bench() {  # NAME SCRIPT OPTIONS...
    local name=$1 script=$2
    shift 2
    echo "== $name: $script $*"
    python "$here/$script" "$@" --json "$out/$name.json"
}

if [ "$device" = cuda ]; then
    gpu=(--device cuda --dtype bfloat16 --layers 2 --length 2048)
    for hidden in 2048 4096; do
        bench "step_cost_${hidden}_1" step_cost.py "${gpu[@]}" --hidden $hidden --sequences 4 --rounds 15
        bench "step_cost_peers_${hidden}_1" step_cost.py "${gpu[@]}" --hidden $hidden --sequences 4 --ratios 0.3 \
            --methods sft osft peft mini_trainer
    done
    bench upkeep_64k step_cost.py "${gpu[@]}" --hidden 4096 --sequences 32 --ratios 0.3 --rounds 7 --methods sft osft
    bench memory memory.py "${gpu[@]}" --hidden 4096 --sequences 4
    bench decomposition decomposition.py --device cuda
    bench decomposition_4096 decomposition.py --device cuda --hidden 4096 --without-svd
    bench whole_phase_8b whole_phase.py --samples 64 osft.save_bases=false    # writes two models of 16 GB to /tmp
else
    bench step_cost_1024_1 step_cost.py --hidden 1024 --layers 1 --sequences 8 --rounds 9 --methods sft osft bare residual
    bench step_cost_512_1 step_cost.py --hidden 512 --rounds 9 --methods sft osft bare residual
    bench step_cost_512_2 step_cost.py --hidden 512 --ranks 2 --rounds 9 --methods sft osft bare
    bench upkeep_64k step_cost.py --hidden 512 --layers 1 --sequences 128 --ratios 0.3 --rounds 3 --methods sft osft
    bench step_cost_peers_1024_1 step_cost.py --hidden 1024 --layers 1 --sequences 8 --ratios 0.3 \
        --methods sft osft peft mini_trainer    # extra `bench`
    bench memory memory.py --ranks 2 --hidden 1024 --dtype bfloat16
    bench memory_checkpointing memory.py --ranks 2 --hidden 1024 --dtype bfloat16 --checkpointing
    bench communication_2_ranks communication.py --ranks 2 --hidden 1024 --dtype bfloat16
    bench decomposition decomposition.py
fi
bench square_core square_core.py
bench startup startup.py
bench data_path data_path.py
bench paper_model paper_model.py
python "$here/draw.py" "$out" "$out/cost.png"
