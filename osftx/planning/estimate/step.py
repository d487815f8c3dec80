"""Estimates the peak memory that a step adds to what a rank holds between two steps, for `max_tokens_per_gpu` tokens.

The estimate is the maximum over these moments: the arrival of the first weights; the backward pass, with gathered
weights, the tensors that autograd keeps, and either the loss or the gradients of one layer; the sending of gradients;
the optimizer's step. It assumes:

- Decoder layers are dense, and attention never builds a matrix of tokens by tokens (FlashAttention, SDPA).
- Autograd keeps the inputs and outputs of each linear layer, each distinct tensor once. Without Liger it also keeps
  the result of the MLP's activation function, and both norms in fp32. At most two gradients as wide as the MLP exist at
  a time.
- With activation checkpointing autograd keeps the input of each layer, and the tensors of one layer at a time.
- The loss without Liger takes three fp32 numbers for each token and vocabulary entry. Liger's loss holds as many logits
  at a time as there are numbers in the hidden state.
- ZeRO-3 keeps up to `MOST_GATHERED` numbers gathered at a time, which is all of a small model.
"""

from dataclasses import dataclass

from osftx.distributed.gradient_bucket import gradient_bucket
from osftx.methods.sizes import FP32, Layer, Workload
from osftx.planning.estimate.state import KEPT_WHOLE

MOST_GATHERED = 1_000_000_000
"""Most numbers that are gathered at a time: DeepSpeed's `max_live_parameters`, and also its `max_reuse_distance`,
within which it does not release a weight."""
SUB_GROUP = 1_000_000_000
"""Most numbers that a rank updates at a time: DeepSpeed's `sub_group_size`."""
FETCHED_AHEAD = 50_000_000
"""Numbers fetched ahead: DeepSpeed's `prefetch_bucket_size`. They arrive in one buffer and are copied out of it."""
COPIES_OF_LOGITS = 3
"""fp32 tensors of the size of the logits in the backward pass of the loss: log-probabilities, their gradient, and the
gradient of the logits."""


@dataclass
class Step:
    """Bytes on the device during a step, in addition to what is held between two steps."""

    gathered: int
    """Gathered weights, including the largest basis."""
    activations: int
    """Tensors that autograd keeps until the backward pass."""
    loss: int
    """Logits and their gradients."""
    gradients: int
    """Gradients of the activations of one layer, its recomputed activations, and the gradient of the largest trained
    weight."""
    sent: int
    """Buffers of gradients that are being sent to the other ranks."""
    optimizer: int
    """Memory of the optimizer's step: copies of gradients, and a weight that is being merged."""
    rise: int
    """Maximum of the above that exists at the same time."""


def of_step(work: Workload) -> Step:
    """Returns the estimate of one step; the module docstring has its assumptions."""
    size, tokens = work.number_bytes, work.training.max_tokens_per_gpu
    hidden = work.vocabulary[1]
    layers = [_kept_of_layer(work, layer) for layer in work.layers]
    checkpointing = work.training.activation_checkpointing
    kept = size * hidden * len(layers) if checkpointing else sum(layers)
    again = max(layers, default=0) if checkpointing else 0
    in_flight = 2 * size * max((layer.widest_input for layer in work.layers), default=0)
    activations = tokens * (kept + (FP32 + 2 * size) * hidden)  # the output of the embeddings, and the last norm
    gathered, fetched = _gathered(work)
    loss, sent, optimizer = _loss(work), _sent(work), _optimizer(work)
    gradients = tokens * (again + in_flight) + size * max(work.trained, default=0)
    backward = gathered + activations + max(loss, gradients)
    if gradient_bucket(work.trained) < sum(work.trained):  # else one bucket is sent, after the activations are freed
        backward += sent
    if not checkpointing or gathered < size * sum(_cut(work)):  # else all weights are already gathered by then
        backward += fetched
    rise = max(gathered + fetched, backward, sent, optimizer)
    return Step(gathered, activations, loss, gradients, sent, optimizer, rise)


def _kept_of_layer(work: Workload, layer: Layer) -> int:
    """Returns the bytes per token that autograd keeps for a decoder layer."""
    size, hidden = work.number_bytes, work.vocabulary[1]
    kept = size * (layer.outputs + layer.inputs)
    if not work.training.use_liger:
        kept += size * layer.widest_input + 2 * hidden * (FP32 - size)
        if work.sizes.trains_norms:  # the gradients of the norms' weights need the values that they scale
            kept += 2 * hidden * size
    return kept


def _cut(work: Workload) -> list[int]:
    """Returns the size, in numbers, of each weight that has to be gathered."""
    return [numbers for numbers in work.weights if numbers > KEPT_WHOLE and work.ranks > 1]


def _gathered(work: Workload) -> tuple[int, int]:
    """Returns the bytes of (gathered weights, weights that are fetched ahead) at a time."""
    cut, bases = _cut(work), work.sizes.added_frozen
    whole = min(sum(cut), max([MOST_GATHERED, *cut])) + (max(bases, default=0) if work.ranks > 1 else 0)
    return work.number_bytes * whole, work.number_bytes * min(sum(cut), max([FETCHED_AHEAD, *cut]))


def _sent(work: Workload) -> int:
    """Returns the bytes of the bucket as it is laid out for the other ranks; in 16 bits it is copied once more."""
    return (2 if work.number_bytes < FP32 else 1) * FP32 * gradient_bucket(work.trained)


def _loss(work: Workload) -> int:
    (words, hidden), tokens = work.vocabulary, work.training.max_tokens_per_gpu
    if not work.training.use_liger:
        return COPIES_OF_LOGITS * FP32 * tokens * words
    return (FP32 + 2 * work.number_bytes) * tokens * min(hidden, words)


def _optimizer(work: Workload) -> int:
    """Returns the bytes of the gradient copies that AdamW reads, and of the method's work after the step."""
    held = sum(-(-numbers // work.ranks) for numbers in work.trained)
    copied = 0 if work.offload.optimizer else FP32 * min(held, SUB_GROUP)
    return copied + work.sizes.after_step
