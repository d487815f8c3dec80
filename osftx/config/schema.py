"""The typed configuration: one dataclass per group, with a docstring under each field that gives unit and source.

Hydra composes YAML and overrides against these classes, so an unknown key or a wrong type is refused at once.
Ranges and rules across fields are in ``validate/``. Names follow training_hub's ``osft()`` where it has one.
This module is imported before any heavy library and must never import torch.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import II, MISSING

DEFAULT_STORE = "outputs/store"


class RankAllocation(Enum):
    uniform = "uniform"
    """Every target trains the same share of its rank."""
    layer_importance = "layer_importance"
    """Layers that change their input less keep more frozen directions; the average over the layers follows the ratio
    (the paper's adaptive rank selection)."""


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


MESSAGE_ROLES = ("system", "user", "assistant", "tool", "pretraining")
"""Roles that a message may have."""


class DataFormat(Enum):
    auto = "auto"
    """The format is recognised by the keys of the first rows."""
    messages = "messages"
    """Each row is a conversation: `messages`, a list of {role, content}."""
    documents = "documents"
    """Each row is plain text, and all of it is trained on."""
    tokenized = "tokenized"
    """Each row has `input_ids` and `labels`, as the model reads them."""


class TrainOn(Enum):
    assistant = "assistant"
    """Every turn of the assistant is trained on."""
    all_but_system = "all_but_system"
    everything = "everything"
    """All tokens are trained on, including those that the chat template adds."""
    last_assistant = "last_assistant"
    """Only the last turn of the assistant is trained on."""


class OnBadRow(Enum):
    fail = "fail"
    skip = "skip"


class SpecialTokens(Enum):
    as_text = "as_text"
    """Special tokens that contents of a conversation spell out are read as plain text."""
    allow = "allow"
    """They are read as special tokens, as `apply_chat_template` of transformers does."""
    fail = "fail"
    """A row that holds one cannot be used."""


class GenerationEos(Enum):
    keep = "keep"
    """The model's own generation config is copied."""
    from_template = "from_template"
    """The token with which the chat template closes an assistant turn is added to it."""


class TooLong(Enum):
    drop = "drop"
    cut = "cut"
    """A conversation ends with the last turn that fits; a document is cut at the limit."""
    split = "split"
    """A conversation becomes several samples at its user turns, a document consecutive pieces."""


class BestState(Enum):
    ignore = "ignore"
    """The best state is only reported."""
    keep = "keep"
    """The best state is saved as a second checkpoint, `best/`, beside that of the last state."""
    hand_on = "hand_on"
    """The best state replaces the last one: as the checkpoint, in what is measured, and for the next phase."""


@dataclass
class ModelConfig:
    path: str = MISSING
    """Hugging Face folder or Hub name of the model that the first phase starts from."""
    revision: str | None = None
    """Branch, tag or commit of a Hub name."""
    attn_implementation: str = "auto"
    """Attention implementation. `auto`: FlashAttention 2 where it is installed and can be used (a GPU, 16 bits), else
    SDPA on each packed sample by itself (`varlen_sdpa`), else transformers' choice. Or a fixed one: `varlen_sdpa`,
    `sdpa` (with a mask), `flash_attention_2`, `flex_attention`, `eager`."""
    trust_remote_code: bool = False
    """Whether to run Python code that comes with the model."""
    generation_eos: GenerationEos = GenerationEos.keep
    """Where the checkpoints stop when they generate: `eos_token_id` of their generation_config.json. `keep`: as the
    start model. `from_template`: also at the token with which the chat template closes an assistant turn."""


@dataclass
class DataConfig:
    path: Any = MISSING
    """JSONL, JSON or Parquet file, glob of such files, folder saved by `datasets`, name on the Hugging Face Hub, or a
    list of these. Formats: docs/how-to/data.md."""
    weights: list[float] | None = None
    """One number for each entry of a list of paths: how often each of its samples occurs. 2.5: each sample occurs
    twice, and half of them, drawn by the phase's seed (else `training.seed`), a third time. 0: the entry is left out.
    null: each sample occurs once."""
    split: str | None = None
    """Split to read from a Hub name or saved folder that has several splits; null: `train`."""
    revision: str | None = None
    """Branch, tag or commit of a Hub name."""
    format: DataFormat = DataFormat.auto
    """Format of the rows: `messages`, `documents` or `tokenized`; `auto` goes by the keys of the first rows."""
    train_on: TrainOn = TrainOn.assistant
    """Turns of a conversation that are trained on. A message with `train: false` is never trained on."""
    document_column: str = "document"
    """Column that holds the text of a document."""
    block_size: int | None = None
    """Tokens of the blocks into which the concatenated documents are cut; null: each document is a sample."""
    limit: int | None = None
    """Number of rows read from each path, the first ones; null: all."""
    on_bad_row: OnBadRow = OnBadRow.fail
    """Handling of an unusable row. `fail`: the run is refused. `skip`: the row is left out, counted and listed in
    results.json."""
    too_long: TooLong = TooLong.drop
    """Handling of a conversation or document that is longer than `max_seq_len`. `drop`: it is left out and counted.
    `cut`: it ends with the last turn that fits. `split`: it becomes several samples."""
    roles: dict[str, str] = field(default_factory=dict)
    """Roles by the names that the data has for them, such as {chatgpt: assistant}."""
    ignore_fields: list[str] = field(default_factory=list)
    """Names of fields of rows and messages that are read as if they were not there."""

    special_tokens: SpecialTokens = SpecialTokens.as_text
    """Handling of special tokens that contents, tool calls or tools spell out, with which a content could end or open
    a turn. `as_text`: they are plain text. `allow`: they are special tokens. `fail`: the row cannot be used. Documents
    are read as transformers reads them, unless it is `fail`."""


@dataclass
class DataProcessingConfig:
    """How all data is tokenised. The result is kept by content, so no run tokenises the same data twice."""

    processing_dir: str | None = None
    """Folder of the tokenised data, which may be removed while no run uses it; null: `<store_dir>/data`, or the run
    folder if nothing is kept in the store."""
    num_proc: int | None = None
    """Number of processes that tokenise; null: one for each CPU, as far as the data is worth it."""


@dataclass
class TrainingConfig:
    """Defaults of every phase. `phases.<name>.<key>` overrides one of them for one phase."""

    num_epochs: int = 2
    """Number of passes over the phase's samples."""
    effective_batch_size: int = 128
    """Samples per optimizer step, over all ranks."""
    max_seq_len: int = 8192
    """Maximum length of a sample in tokens. Longer samples are dropped and counted."""
    max_tokens_per_gpu: int = 10000
    """Maximum number of tokens in one packed micro-batch of one rank."""
    learning_rate: float = 5e-6
    """Peak learning rate of AdamW."""
    lr_scheduler: str = "cosine"
    """Learning-rate schedule of transformers: linear, cosine, constant, constant_with_warmup, ..."""
    lr_scheduler_kwargs: dict[str, Any] = field(default_factory=dict)
    """Additional arguments of the learning-rate schedule."""
    warmup_steps: int = 0
    """Number of optimizer steps of linear warm-up."""
    beta1: float = 0.9
    """AdamW's decay of the first moment."""
    beta2: float = 0.95
    """AdamW's decay of the second moment."""
    eps: float = 1e-8
    """AdamW's epsilon."""
    weight_decay: float = 0.0
    """AdamW's decoupled weight decay. Under OSFT it acts on the update, so it pulls towards the phase's start."""
    max_grad_norm: float = 1.0
    """Global norm to which gradients are clipped; 0 turns clipping off."""
    seed: int = 42
    """Seed that, together with the epoch, decides the order of the samples."""
    use_liger: bool = True
    """Whether to use Liger's fused Triton kernels, which need a GPU."""
    activation_checkpointing: bool = True
    """Whether to recompute activations in the backward pass: less memory, about a third more compute."""
    train_dtype: Precision = Precision.bfloat16
    """Precision of the forward and backward pass. The optimizer always keeps an fp32 master copy."""
    save_dtype: Precision = Precision.bfloat16
    """Precision of the last phase's saved weights. bfloat16 rounds away a part of small updates (`update_kept` in the
    results). See docs/method/precision.md."""
    hand_on_dtype: Precision = Precision.float32
    """Precision of the saved weights of every phase that another phase follows. With float32 the next phase starts
    from what was trained, whatever its own `train_dtype`."""
    deterministic: bool = False
    """Whether torch uses only deterministic kernels and fails where there are none. A run then gives the same bits
    again on the same GPUs, but is slower. On a CPU the bits are the same without it."""


@dataclass
class ReplayConfig:
    """Samples of earlier data that are mixed into a phase's own, as LAB does against forgetting (Sudalairaj et al.,
    arXiv 2403.01081, section 3.2). OSFT does without it."""

    sources: list[Any] = field(default_factory=list)
    """Replayed sources: names of earlier phases, which stand for their own data (including what they hold out for
    validation), and other data: a path or a name as in `data.path`, or settings such as `{path: FILE, format:
    documents}`. Empty: no replay."""
    ratio: float | None = None
    """Share of each source's samples that is replayed, 0 to 1, rounded up; 1 is all of them, as in LAB. The phase's
    seed decides which samples; they are the same in every epoch."""
    samples: int | None = None
    """Number of samples of each source that are replayed, instead of `ratio`."""


@dataclass
class ValidationConfig:
    """Loss on samples that a phase does not train on, measured while it trains. `split` or `path` turns it on."""

    split: float | None = None
    """Share of the phase's own samples that is held out from training, above 0 and below 1. The phase's seed decides
    which samples. Replayed samples are never held out."""
    path: Any = None
    """Separate validation data, as in `data.path`, instead of `split`. It is read with the settings of the phase's own
    data, except `weights`, `split`, `revision` and `limit`, which are not applied."""
    every_steps: int | None = None
    """Number of optimizer steps between two measurements; null: none by steps."""
    every_epoch: bool = False
    """Whether to measure at the end of every epoch."""
    at_end: bool = True
    """Whether to measure after the last step."""
    best: BestState = BestState.ignore
    """What happens to the state with the lowest loss: `ignore`, `keep` or `hand_on`. The last two hold a copy of it in
    host memory: four bytes for each trained number, over all ranks. Under `osft` these are the numbers of the trainable
    subspaces, under `sft` those of the whole model."""


@dataclass
class PhaseConfig:
    """Settings of one phase. Every key of `TrainingConfig` can be set here and otherwise follows `training`."""

    method: str = "osft"
    """Training method. `osft`: train the trainable directions of the target weights and freeze everything else. `sft`:
    plain fine-tuning of every weight. A method from outside the package is given by the name of its entry point (group
    `osftx.methods`) or by the import path of its class, such as `my_package.my_module.MyMethod`."""
    unfreeze_rank_ratio: float | None = None
    """Trainable share of each target's rank, 0 to 1; null: taken from `schedule`. Paper, section 3."""
    method_settings: dict[str, Any] = field(default_factory=dict)
    """Settings of a method from outside the package. The settings of `osft` are in the groups `osft`, `preserve` and
    `schedule`."""
    init_from: str | None = None
    """Checkpoint folder from which the run starts at this phase; the phases before it are skipped."""
    data: DataConfig = field(default_factory=DataConfig)
    """Data that this phase trains on."""
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    """Earlier data that is mixed into the training data."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    """Measurement of the loss on held-out samples while the phase trains."""
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
    """The unfreeze ratio of the i-th OSFT phase, i from 0. A ratio that is set on a phase takes precedence."""

    kind: ScheduleKind = ScheduleKind.progressive
    """Formula of the ratio. `progressive`: max(minimum, initial - i * reduction). `geometric`: max(minimum, initial *
    factor ** i). `constant`: initial. `explicit`: ratios[i]."""
    initial: float = 0.3
    """Ratio of the first OSFT phase. Guidance: 0.25 to 0.35."""
    reduction: float = 0.1
    """Amount by which the ratio falls per phase (progressive). Guidance: 0.05 to 0.15."""
    factor: float = 0.7
    """Factor by which the ratio is multiplied per phase (geometric)."""
    minimum: float = 0.1
    """Lowest ratio (progressive, geometric). Guidance: at least 0.1."""
    ratios: list[float] = field(default_factory=list)
    """One ratio for each OSFT phase (explicit)."""


@dataclass
class OsftConfig:
    subspace: str = "weights"
    """How the trainable directions are chosen. `weights` (weight-based subspaces): the smallest singular directions of
    each weight, on both sides (the paper). `activations` (activation-based subspaces): the input directions that the
    layers use least on what must be kept (`preserve`)."""
    rank_allocation: RankAllocation = RankAllocation.uniform
    """How the trainable rank is distributed over the layers: `uniform` or `layer_importance`, which each phase measures
    on its own samples. The plan assumes `uniform`."""
    minimum_retention: float = 0.1
    """Share of its directions that a layer of zero importance keeps under `layer_importance` (the paper's mrr)."""
    train_others: bool = False
    """Whether to also train everything outside the targets, without protection: embeddings, norms, biases, the head.
    The reference trainer does this; the option is for comparison."""
    target_patterns: list[str] | None = None
    """Regular expressions that select the targets, matched against whole module names (`re.fullmatch`); null: the
    targets of the model's family (`models/families.py`)."""
    save_bases: bool = True
    """Whether to keep the fp32 bases of each phase in its `bases/` folder (about 23 GB per phase for an 8B Llama)."""


@dataclass
class PreserveConfig:
    """The preserve set: what the model must keep under `osft.subspace=activations`.

    It is read once, before the first phase. Each phase then adds the covariance of its own inputs and leaves the sum
    beside its checkpoint, so that no sample is kept.
    """

    data: DataConfig = field(default_factory=DataConfig)
    """Conversations like those that the start model must still answer; a few hundred are enough. They are not read if
    an earlier phase has left an input covariance beside the start model."""
    max_tokens: int = 262144
    """Maximum number of tokens read from `data`, from each phase's own samples and from each evaluation set. Six tokens
    for each feature of the model's widest input are enough; the default serves widths of up to 43,000."""


@dataclass
class CheckpointingConfig:
    """Saves of a phase while it trains, so that the same command continues an interrupted phase.

    Saves lie in the store until the phase is done. With `reuse=false` nothing is saved.
    """

    every_minutes: float | None = 15.0
    """Minutes between two saves; null: no saves by the clock."""
    every_steps: int | None = None
    """Number of optimizer steps between two saves; null: no saves by steps. The phase is also saved on SIGTERM and
    SIGUSR1 and after the last step."""
    keep: int = 2
    """Number of saves that are kept. If the newest one is damaged, the one before it is used."""
    grace_s: int = 30
    """Seconds after a signal in which the ranks may finish their step, save and exit before they are killed. Large
    models need more, and then the scheduler must allow more, too."""


@dataclass
class OffloadConfig:
    """Data that is held in host memory between two steps if GPU memory is too small. Each costs a transfer over the bus
    per step."""

    optimizer: bool = False
    """Whether to offload the fp32 master copy of what is trained, its gradients and AdamW's moments. This saves 16
    bytes per trained number on the GPU and takes 20 on the host, where DeepSpeed holds gradients twice. The CPU runs
    the optimizer step."""
    bases: bool = False
    """Whether to offload OSFT's fp32 bases and its copy of the starting weights: about 37 GB over all ranks for an 8B
    Llama at ratio 0.3. They are fetched one matrix at a time, the frozen bases twice per step."""


@dataclass
class DistributedConfig:
    """How the ranks of a phase are started. The names are those of training_hub and torchrun."""

    nproc_per_node: int = 8
    """Number of ranks on this machine, one per GPU."""
    nnodes: int = 1
    """Number of machines. A launcher that has started several processes (torchrun, srun, ...) decides this itself."""
    node_rank: int = 0
    """Index of this machine, 0 to nnodes - 1. The first machine leads; the others follow its instructions."""
    rdzv_id: int = 47
    """Rendezvous id of several nodes. Phase i uses rdzv_id + i."""
    rdzv_endpoint: str = "127.0.0.1:29500"
    """Host of the first node and the port at which the other nodes find it, used with several nodes. The ranks of each
    phase meet at a free port of that host."""
    join_timeout_s: int = 300
    """Seconds that the nodes wait for each other at the start of the run."""
    accelerator: Accelerator = Accelerator.auto
    """Device of the ranks: `cuda`, `cpu`, or `auto`, which is `cuda` if there is a GPU."""
    exclusive_devices: bool = True
    """Whether to claim `nproc_per_node` of the visible GPUs, and to wait while other runs of this user hold too many of
    them. false: the ranks take the first visible GPUs, even if another run uses them."""
    omp_num_threads: int = 1
    """Number of CPU threads of each rank. It is fixed, because the last bits of the results depend on it."""
    offload: OffloadConfig = field(default_factory=OffloadConfig)
    """Data that is held in host memory between two steps, which frees GPU memory and costs time."""
    timeout_s: int = 1800
    """Seconds that a rank waits for the other ranks before the phase fails."""
    deepspeed: dict[str, Any] = field(default_factory=dict)
    """Keys of a DeepSpeed configuration, such as `zero_optimization.overlap_comm`. Keys that osftx sets itself are
    refused. Memory estimates assume DeepSpeed's defaults. See docs/method/precision.md."""
    secret_file: str | None = None
    """File with the secret by which several nodes know each other, which you alone can read; null: the environment
    variable OSFTX_SECRET, else ~/.config/osftx/secret, which is made at its first use."""


@dataclass
class EvaluationSetConfig(DataConfig):
    """One evaluation set: held-out data, with the settings of training data."""

    learned_in: str | None = None
    """Phase that teaches what this set asks, or `base`; null: the phase of the same name, else `base`."""
    score: str | None = None
    """Score of the answers that the model generates, beside loss, token accuracy and exact match, for which nothing is
    generated: `exact_match`, `contains`, `json_equal`, `regex`, `numeric`, `f1`, or the import path of a function of
    your own. null: no answers are generated. See docs/how-to/evaluation-and-validation.md."""
    against_base: bool = False
    """Whether to compare each state of the model with the start model, on the start model's own answers to the prompts
    of this set."""
    max_new_tokens: int = 128
    """Maximum number of tokens of a generated answer. An answer that reaches it is scored as it is, and counted as cut
    off."""


@dataclass
class GenerationConfig:
    """How the answers of the evaluation sets with `score` or `against_base` are generated."""

    batch_size: int = 16
    """Number of answers that each rank generates at a time."""
    temperature: float = 0.0
    """Temperature of the sampling; 0: greedy decoding."""
    seed: int = 42
    """Seed of the sampling. The answers do not depend on the number of ranks."""


@dataclass
class LmEvalConfig:
    """Benchmarks of the lm-evaluation-harness (Gao et al., https://github.com/EleutherAI/lm-evaluation-harness).

    They run in one process on one GPU or the CPU and need `pip install 'osftx[eval]'`. See docs/how-to/benchmarks.md.
    """

    tasks: list[str] = field(default_factory=list)
    """Names of the tasks and groups that are measured before the first phase and after each phase. Empty: none."""
    include_path: str | None = None
    """Folder of your own tasks as YAML files of the harness. They take precedence over the harness's tasks of the same
    name."""
    num_fewshot: int | None = None
    """Number of examples in each prompt; null: as many as the task specifies."""
    limit: int | None = None
    """Number of samples of each task, the first ones; null: all. Only for trying something out."""
    batch_size: int = 8
    """Number of requests that the model answers at a time."""
    apply_chat_template: bool = False
    """Whether to ask in the model's chat template, with examples as earlier turns. Most published figures do not."""
    confirm_run_unsafe_code: bool = False
    """Whether to allow tasks that run code written by the model on this machine (humaneval, mbpp)."""
    timeout_s: int = 21600
    """Maximum seconds that all tasks together may take on one state of the model."""


@dataclass
class EvaluationConfig:
    sets: dict[str, EvaluationSetConfig] = field(default_factory=dict)
    """Evaluation sets by name. Loss, token accuracy and exact match are measured before the first phase and after each
    phase."""
    every_steps: int | None = None
    """Number of optimizer steps between two measurements within a phase, which give the curve of what is kept against
    what is learned; null: no curve. The store treats a phase with a curve and the same phase without as different."""
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    """How answers are generated for the sets with `score` or `against_base`."""
    lm_eval: LmEvalConfig = field(default_factory=LmEvalConfig)
    """Benchmarks of the lm-evaluation-harness, measured in addition to the sets."""


@dataclass
class CallbackConfig:
    """A class that observes the training of every phase. See osftx.training.callbacks."""

    path: str = MISSING
    """Import path of the class, such as `my_module.MyCallback`. The module is searched from the folder where the run
    starts."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the class's constructor."""


@dataclass
class SweepConfig:
    """Settings of a sweep (`-m`). How its values are chosen is set in `hydra.sweeper`."""

    resume: str | None = None
    """Folder of a sweep that was interrupted or had failed jobs; only the jobs that are missing there are run. The rest
    of the command must be the same as the first time. null: start a new sweep."""


@dataclass
class PlanConfig:
    calibrate: bool = False
    """Whether to start each phase for a few steps, so that the plan shows how long the run will take. Ranks are started
    and the model is read; with `dry_run=true` the run ends after that."""


@dataclass
class ExperimentConfig:
    name: str = MISSING
    """Name of the experiment and of its run folder."""
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    osft: OsftConfig = field(default_factory=OsftConfig)
    preserve: PreserveConfig = field(default_factory=PreserveConfig)
    data: DataProcessingConfig = field(default_factory=DataProcessingConfig)
    phases: dict[str, PhaseConfig] = field(default_factory=dict)
    """Phases by name, in the order in which they are first mentioned."""
    phase_order: list[str] | None = None
    """Order of the phases, which names every phase once; null: the order of `phases`."""
    checkpointing: CheckpointingConfig = field(default_factory=CheckpointingConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    callbacks: list[Any] = field(default_factory=list)
    """Your own classes that observe the training: import paths such as `my_module.MyCallback`, or
    `{path: my_module.MyCallback, settings: {KEY: VALUE}}`. They are not part of a phase's fingerprint, and a reused
    phase calls none."""
    output_dir: str | None = None
    """Run folder; null: outputs/<name>/<time>, or the job's folder in a sweep."""
    store_dir: str = DEFAULT_STORE
    """Phase store: folder of trained phases under their fingerprints, reused by any run (`python -m osftx.store`)."""
    reuse: bool = True
    """Whether to reuse phases of the store and keep new ones there. false: every phase is trained, and only the run
    folder has it."""
    objective: Any = "summary.average_accuracy"
    """Objective of a search: the path of a number in results.json, or a weighted sum of such paths, as in
    `summary.learning_accuracy - 0.5*summary.forgetting`. Several objectives are given as a list."""
    sweep: SweepConfig = field(default_factory=SweepConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    dry_run: bool = False
    """Whether to only check everything and print the plan, and start nothing (except for `plan.calibrate`)."""
    inspect_data: int | None = None
    """Number of samples of each source to show, with trained tokens marked and a summary of all data of the run.
    Nothing is started then. null: train."""
