"""The typed configuration: one dataclass a group, a docstring under each field with its unit and source.

Hydra composes YAML and overrides against these classes, so an unknown key or a wrong type is refused at once.
Ranges and rules across fields are in ``validate/``. Names follow training_hub's ``osft()`` where it has one.
This module is imported before anything heavy: it must never import torch.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import II, MISSING

DEFAULT_STORE = "outputs/store"


class RankAllocation(Enum):
    uniform = "uniform"
    """The same share of every target's rank."""
    layer_importance = "layer_importance"
    """More is kept of layers that change their input less, on average as much as the ratio says (the paper's adaptive
    rank selection)."""


class ScheduleKind(Enum):
    progressive = "progressive"
    geometric = "geometric"
    constant = "constant"
    explicit = "explicit"


class Precision(Enum):
    bfloat16 = "bfloat16"
    float32 = "float32"


class Accelerator(Enum):
    auto = "auto"
    cuda = "cuda"
    cpu = "cpu"


class DataFormat(Enum):
    auto = "auto"
    """By the keys of the first row."""
    messages = "messages"
    """Conversations: `messages`, a list of {role, content}."""
    documents = "documents"
    """Plain text, all of which is trained on."""
    tokenized = "tokenized"
    """`input_ids` and `labels`, as the model reads them."""


class TrainOn(Enum):
    assistant = "assistant"
    """Every turn of the assistant."""
    all_but_system = "all_but_system"
    everything = "everything"
    """Also what the chat template writes itself."""
    last_assistant = "last_assistant"
    """The last turn of the assistant alone."""


class OnBadRow(Enum):
    fail = "fail"
    skip = "skip"


class BestState(Enum):
    ignore = "ignore"
    """Which one it was is told, no more."""
    keep = "keep"
    """A second checkpoint, `best/`, beside that of the last state."""
    hand_on = "hand_on"
    """It takes the place of the last one: as the checkpoint, in what is measured, and for the next phase."""


@dataclass
class ModelConfig:
    path: str = MISSING
    """Hugging Face folder or Hub name of the model that the first phase starts from."""
    revision: str | None = None
    """Branch, tag or commit, for a Hub name."""
    attn_implementation: str = "auto"
    """`auto`: FlashAttention 2 where it is installed and can be used (a GPU, 16 bits), else SDPA on each packed sample
    by itself (`varlen_sdpa`), else transformers' choice. Or one of those: `sdpa` (under a mask), `flash_attention_2`,
    `flex_attention`, `eager`."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model."""


@dataclass
class DataConfig:
    path: Any = MISSING
    """A JSONL, JSON or Parquet file, a glob of them, a folder saved by `datasets`, a name on the Hugging Face Hub, or a
    list of these. Formats: docs/how-to/data.md."""
    weights: list[float] | None = None
    """One number for each entry of a list of paths: how often each of its samples is there. 2.5: twice, and half of
    them, drawn by `training.seed`, a third time; 0: the entry is left out. null: all once."""
    split: str | None = None
    """Of a Hub name or a saved folder that has several; null: train."""
    revision: str | None = None
    """Branch, tag or commit, for a Hub name."""
    format: DataFormat = DataFormat.auto
    """`messages`, `documents` or `tokenized`; `auto` goes by the keys of the first rows."""
    train_on: TrainOn = TrainOn.assistant
    """Which turns of a conversation are trained on; a message with `train: false` never is."""
    document_column: str = "document"
    """Where the text of a document is."""
    block_size: int | None = None
    """Tokens of the blocks into which documents, one behind the other, are cut; null: each document is a sample."""
    limit: int | None = None
    """Rows that are read of each path, the first ones; null: all."""
    on_bad_row: OnBadRow = OnBadRow.fail
    """`fail`: a row that cannot be used refuses the run. `skip`: it is left out, counted and listed in results.json."""


@dataclass
class DataProcessingConfig:
    """How all data is tokenised. It is kept by its content, so that no run tokenises the same twice."""

    processing_dir: str | None = None
    """Folder of the tokenised data, which can be removed while no run uses it; null: `<store_dir>/data`, or the run
    folder where nothing is kept in the store."""
    num_proc: int | None = None
    """Processes that tokenise; null: one for each CPU, as far as the data is worth it."""


@dataclass
class TrainingConfig:
    """Defaults of every phase; `phases.<name>.<key>` overrides one of them for one phase."""

    num_epochs: int = 2
    """Passes over the phase's samples."""
    effective_batch_size: int = 128
    """Samples per optimizer step, over all ranks."""
    max_seq_len: int = 8192
    """Tokens; longer samples are dropped, and counted."""
    max_tokens_per_gpu: int = 10000
    """Tokens in one packed micro-batch of one rank."""
    learning_rate: float = 5e-6
    """Peak learning rate of AdamW."""
    lr_scheduler: str = "cosine"
    """A schedule of transformers: linear, cosine, constant, constant_with_warmup, ..."""
    lr_scheduler_kwargs: dict[str, Any] = field(default_factory=dict)
    """Extra arguments of the schedule."""
    warmup_steps: int = 0
    """Optimizer steps of linear warm-up."""
    beta1: float = 0.9
    """AdamW's decay of the first moment."""
    beta2: float = 0.95
    """AdamW's decay of the second moment."""
    eps: float = 1e-8
    """AdamW's epsilon."""
    weight_decay: float = 0.0
    """AdamW's decoupled weight decay; under OSFT it acts on the update, so it pulls towards the phase's start."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this global norm; 0 turns clipping off."""
    seed: int = 42
    """Decides the order of the samples (with the epoch)."""
    use_liger: bool = True
    """Liger's fused Triton kernels; needs a GPU."""
    activation_checkpointing: bool = True
    """Recompute activations in the backward pass: less memory, about a third more compute."""
    train_dtype: Precision = Precision.bfloat16
    """Precision of forward and backward; the optimizer always keeps an fp32 master copy."""
    save_dtype: Precision = Precision.bfloat16
    """Precision of the last phase's saved weights. bfloat16 rounds a part of small updates away (`update_kept` in the
    results). See docs/method/precision.md."""
    hand_on_dtype: Precision = Precision.float32
    """The same of every phase that another one follows. With float32 the next one starts from what was trained,
    whatever its own `train_dtype`."""
    deterministic: bool = False
    """Have torch take deterministic kernels alone, and fail where there are none: the same bits again on the same GPUs,
    slower. On a CPU they are the same without it."""


@dataclass
class ReplayConfig:
    """Samples of earlier data, mixed into a phase's own: what LAB does against forgetting (Sudalairaj et al., arXiv
    2403.01081, section 3.2), and what OSFT does without."""

    sources: list[Any] = field(default_factory=list)
    """Names of earlier phases, for their own data (also what they hold out for validation), and other data: a path or a
    name as in `data.path`, or settings such as `{path: FILE, format: documents}`. Empty: no replay."""
    ratio: float | None = None
    """Share of each source's samples, 0 to 1, rounded up: 1 is all of them, as in LAB. Which ones, the phase's seed
    decides; they are the same in every epoch."""
    samples: int | None = None
    """Instead of `ratio`: samples of each source."""


@dataclass
class ValidationConfig:
    """The loss on samples that the phase does not train on, while it trains; `split` or `path` turns it on."""

    split: float | None = None
    """Share of the phase's own samples that is held out from training, above 0 and below 1; the phase's seed decides
    which. Replayed samples are never among them."""
    path: Any = None
    """Instead of `split`: data of its own, as `data.path`; it is read like the phase's own, but for `limit`."""
    every_steps: int | None = None
    """Optimizer steps between two measurements; null: not by steps."""
    every_epoch: bool = False
    """Measure at the end of every epoch."""
    at_end: bool = True
    """Measure after the last step."""
    best: BestState = BestState.ignore
    """What becomes of the state with the lowest loss: `ignore`, `keep` or `hand_on`. The last two keep a copy of it in
    the host's memory, four bytes for each number that is trained, over all ranks: under `osft` those of the free
    subspaces, under `sft` all of the model."""


@dataclass
class PhaseConfig:
    """One phase. Every key of `TrainingConfig` can be set here and otherwise follows `training`."""

    method: str = "osft"
    """`osft`: train in free directions of the target weights, everything else is frozen. `sft`: plain fine-tuning of
    every weight. Or a method from outside the package, by the name of its entry point (group `osftx.methods`) or by the
    import path of its class: `my_package.my_module.MyMethod`."""
    unfreeze_rank_ratio: float | None = None
    """Trainable share of each target's rank, 0 to 1; null takes it from `schedule`. Paper, section 3."""
    method_settings: dict[str, Any] = field(default_factory=dict)
    """Settings of a method from outside the package; `osft` has the groups `osft`, `preserve` and `schedule`."""
    init_from: str | None = None
    """Start the run at this phase from this checkpoint folder; the phases before it are skipped."""
    data: DataConfig = field(default_factory=DataConfig)
    """What this phase trains on."""
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    """What is mixed into it."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    """What is measured while it trains, on samples that it does not train on."""
    num_epochs: int = II("training.num_epochs")
    effective_batch_size: int = II("training.effective_batch_size")
    max_seq_len: int = II("training.max_seq_len")
    max_tokens_per_gpu: int = II("training.max_tokens_per_gpu")
    learning_rate: float = II("training.learning_rate")
    lr_scheduler: str = II("training.lr_scheduler")
    lr_scheduler_kwargs: dict[str, Any] = II("training.lr_scheduler_kwargs")
    warmup_steps: int = II("training.warmup_steps")
    beta1: float = II("training.beta1")
    beta2: float = II("training.beta2")
    eps: float = II("training.eps")
    weight_decay: float = II("training.weight_decay")
    max_grad_norm: float = II("training.max_grad_norm")
    seed: int = II("training.seed")
    use_liger: bool = II("training.use_liger")
    activation_checkpointing: bool = II("training.activation_checkpointing")
    train_dtype: Precision = II("training.train_dtype")
    save_dtype: Precision = II("training.save_dtype")
    hand_on_dtype: Precision = II("training.hand_on_dtype")
    deterministic: bool = II("training.deterministic")


@dataclass
class ScheduleConfig:
    """The unfreeze ratio of the i-th OSFT phase, i from 0; a ratio written on a phase wins."""

    kind: ScheduleKind = ScheduleKind.progressive
    """`progressive`: max(minimum, initial - i * reduction). `geometric`: max(minimum, initial * factor ** i).
    `constant`: initial. `explicit`: ratios[i]."""
    initial: float = 0.3
    """Ratio of the first phase. Guidance: 0.25 to 0.35."""
    reduction: float = 0.1
    """Taken off per phase (progressive). Guidance: 0.05 to 0.15."""
    factor: float = 0.7
    """Multiplied in per phase (geometric)."""
    minimum: float = 0.1
    """The ratio never falls below this (progressive, geometric). Guidance: at least 0.1."""
    ratios: list[float] = field(default_factory=list)
    """One ratio per OSFT phase (explicit)."""


@dataclass
class OsftConfig:
    subspace: str = "weights"
    """What decides which directions are free. `weights`: the smallest singular directions of each weight, on both sides
    (the paper). `activations`: the input directions that the layers use least on what must be kept (`preserve`)."""
    rank_allocation: RankAllocation = RankAllocation.uniform
    """How the free rank is shared out among the layers: `uniform` or `layer_importance`, which each phase measures on
    its own samples. The plan counts as if it were uniform."""
    minimum_retention: float = 0.1
    """Share of its directions that a layer of no importance would keep, with `layer_importance` (the paper's mrr)."""
    train_others: bool = False
    """Train everything beside the targets as well, without protection: embeddings, norms, biases, the head. The
    reference trainer does; it is for comparison."""
    target_patterns: list[str] | None = None
    """Regular expressions, matched against whole module names (`re.fullmatch`); null takes the targets of the
    model's family (`osft/targets.py`)."""
    save_bases: bool = True
    """Keep the fp32 bases of each phase in its `bases/` folder (for an 8B Llama about 23 GB a phase)."""


@dataclass
class PreserveConfig:
    """What the model must keep, for `osft.subspace=activations`. Read once, before the first phase; each phase then
    adds its own inputs and leaves the sum beside its checkpoint, so that no sample is kept."""

    data: DataConfig = field(default_factory=DataConfig)
    """Conversations like those that the start model must still answer; a few hundred are enough. Not read where the
    start model has a record of kept inputs beside it, since an earlier phase has left one."""
    max_tokens: int = 262144
    """Tokens that are read of `data`, of each phase's own samples and of each evaluation set. Six for each feature of a
    model's widest input are enough: these are for up to 43,000."""


@dataclass
class CheckpointingConfig:
    """How a phase is saved while it trains, so that the same command goes on where it was broken off. What is saved
    lies in the store until the phase is done; with `reuse=false` nothing is."""

    every_minutes: float | None = 15.0
    """Minutes between two saves; null: never by the clock."""
    every_steps: int | None = None
    """Optimizer steps between two saves; null: not by steps. SIGTERM and SIGUSR1 save as well, and so does the last
    step."""
    keep: int = 2
    """Saves that are kept: where the newest is damaged, the one before is taken."""
    grace_s: int = 30
    """Seconds that the ranks have, after a signal, to end their step, save and leave; then they are killed. More for
    large models, and then more from the scheduler, too."""


@dataclass
class OffloadConfig:
    """What waits in host memory between two steps, where a GPU's is too small: each is a trip over the bus per step."""

    optimizer: bool = False
    """The fp32 master copy of what is trained, its gradients and AdamW's moments: 16 bytes a number less on the GPU, 20
    more on the host, where DeepSpeed has gradients twice. The CPU takes the step."""
    bases: bool = False
    """OSFT's fp32 bases and its copy of the starting weights: for an 8B Llama at ratio 0.3 about 37 GB over all
    ranks. They are fetched one matrix at a time, the frozen ones twice a step."""


@dataclass
class DistributedConfig:
    """How the ranks of a phase are started; the names of training_hub and torchrun."""

    nproc_per_node: int = 8
    """Ranks on this machine, one per GPU."""
    nnodes: int = 1
    """Machines. A launcher that has started several processes (torchrun, srun, ...) decides this itself."""
    node_rank: int = 0
    """This machine's index, 0 to nnodes - 1. The first one leads; the others do what it tells them."""
    rdzv_id: int = 47
    """Rendezvous id; phase i uses rdzv_id + i. On one node a part that is unique to the launch is added."""
    rdzv_endpoint: str = "127.0.0.1:29500"
    """Host of the first node, and the port at which the other nodes find it. Used with several nodes; the ranks of each
    phase meet at a free port of that host."""
    join_timeout_s: int = 300
    """Seconds that the nodes wait for each other at the beginning."""
    accelerator: Accelerator = Accelerator.auto
    """`cuda`, `cpu`, or `auto`: cuda where there is a GPU."""
    exclusive_devices: bool = True
    """Claim `nproc_per_node` GPUs of those that are visible, and wait while other runs of this user hold too many of
    them. Off: the ranks take the first visible GPUs, also where another run uses them."""
    omp_num_threads: int = 1
    """CPU threads of each rank; fixed, because the results' last bits depend on it."""
    offload: OffloadConfig = field(default_factory=OffloadConfig)
    """What waits in host memory between two steps; for GPUs, of which it frees memory and takes time."""
    timeout_s: int = 1800
    """Seconds that a rank waits for the others before the phase fails."""
    deepspeed: dict[str, Any] = field(default_factory=dict)
    """Keys of a DeepSpeed configuration, such as `zero_optimization.overlap_comm`; those that osftx sets itself are
    refused. The estimates of memory are for DeepSpeed's defaults. See docs/method/precision.md."""


@dataclass
class EvaluationSetConfig(DataConfig):
    """Held-out data, with the settings of training data."""

    learned_in: str | None = None
    """The phase that teaches what this set asks, or `base`. null: the phase of the same name, else `base`."""


@dataclass
class LmEvalConfig:
    """Benchmarks of the lm-evaluation-harness (Gao et al., https://github.com/EleutherAI/lm-evaluation-harness), in one
    process on one GPU or the CPU: `pip install 'osftx[eval]'`. See docs/how-to/benchmarks.md."""

    tasks: list[str] = field(default_factory=list)
    """Names of tasks and groups, measured before the first phase and after each phase. Empty: none."""
    include_path: str | None = None
    """Folder of your own tasks, YAML files as the harness reads them; they go before its own of the same name."""
    num_fewshot: int | None = None
    """Examples in each prompt; null: as many as the task says."""
    limit: int | None = None
    """Samples of each task, the first ones; null: all. Only to try something out."""
    batch_size: int = 8
    """Requests that the model answers at a time."""
    apply_chat_template: bool = False
    """Ask in the model's chat template, examples as earlier turns. Most published figures are without."""
    confirm_run_unsafe_code: bool = False
    """Take tasks that run, on this machine, code which the model writes (humaneval, mbpp)."""
    timeout_s: int = 21600
    """Seconds that all tasks on one state of the model may take."""


@dataclass
class EvaluationConfig:
    sets: dict[str, EvaluationSetConfig] = field(default_factory=dict)
    """Measured before the first phase and after each phase: loss, token accuracy, exact match."""
    every_steps: int | None = None
    """Optimizer steps between two measurements within a phase: the curve of what is kept against what is learned. null:
    none. A phase with a curve is another one to the store than the same without."""
    lm_eval: LmEvalConfig = field(default_factory=LmEvalConfig)
    """Benchmarks, beside the sets."""


@dataclass
class CallbackConfig:
    """A class that observes the training of every phase: osftx.training.callbacks."""

    path: str = MISSING
    """Its import path, such as `my_module.MyCallback`. The module is found from the folder where the run starts."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the constructor."""


@dataclass
class SweepConfig:
    """What `-m` does beside the values that it sweeps over; how they are chosen is in `hydra.sweeper`."""

    resume: str | None = None
    """Folder of a sweep that was broken off, or had failed jobs: run only what is missing there. The rest of the
    command is the same as the first time."""


@dataclass
class PlanConfig:
    calibrate: bool = False
    """Begin each phase and take a few steps of it, so that the plan tells how long the run will take. Ranks are started
    and the model is read; with `dry_run=true` the run ends after that."""


@dataclass
class ExperimentConfig:
    name: str = MISSING
    """The experiment's name; names the run folder."""
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    osft: OsftConfig = field(default_factory=OsftConfig)
    preserve: PreserveConfig = field(default_factory=PreserveConfig)
    data: DataProcessingConfig = field(default_factory=DataProcessingConfig)
    phases: dict[str, PhaseConfig] = field(default_factory=dict)
    """The phases, by name, in the order in which they are first mentioned."""
    phase_order: list[str] | None = None
    """Another order; names every phase once."""
    checkpointing: CheckpointingConfig = field(default_factory=CheckpointingConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    callbacks: list[Any] = field(default_factory=list)
    """Your own classes that observe the training: import paths such as `my_module.MyCallback`, or
    `{path: my_module.MyCallback, settings: {KEY: VALUE}}`. They are not a part of what a phase is in the store, and a
    phase that is reused calls none."""
    output_dir: str | None = None
    """The run folder; null: outputs/<name>/<time>, or the job's folder in a sweep."""
    store_dir: str = DEFAULT_STORE
    """Where trained phases are kept under their fingerprints, to be used again by any run (`python -m osftx.store`)."""
    reuse: bool = True
    """Use phases of the store, and keep new ones there. Off: every phase is trained, in the run folder alone."""
    objective: Any = "summary.average_accuracy"
    """The number in results.json that a search goes by, as its path, or a weighted sum of such numbers:
    `summary.learning_accuracy - 0.5*summary.forgetting`. Several objectives as a list."""
    sweep: SweepConfig = field(default_factory=SweepConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    dry_run: bool = False
    """Check everything, print the plan, start nothing (but for `plan.calibrate`)."""
    inspect_data: int | None = None
    """Show what all data of the run holds, and so many samples of each, with what is trained on marked; start
    nothing."""
