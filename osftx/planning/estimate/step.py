"""The most that a step adds to what a rank holds between two steps: an estimate, for `max_tokens_per_gpu` tokens.

The moments that are compared: the arrival of the first weights; the backward pass, with gathered weights, what autograd
keeps, and either the loss or the gradients of one layer; the sending of gradients; the optimizer's step. Taken for
granted:

- decoder layers are dense, and attention never builds a matrix of tokens by tokens (FlashAttention, SDPA);
- autograd keeps what each linear layer reads and writes, each distinct tensor once; without Liger also the result of
  the MLP's activation function, and both norms in fp32; at most two gradients as wide as the MLP are there at a time;
- with checkpointing it keeps the input of each layer, and one layer's tensors at a time;
- the loss without Liger takes three fp32 numbers for each token and word; Liger's takes as many logits at a time as
  there are numbers in the hidden state;
- ZeRO-3 lets up to `MOST_GATHERED` numbers be whole at a time, which is all of a small model.
"""

from dataclasses import dataclass

from osftx.distributed.gradient_bucket import gradient_bucket
from osftx.methods.sizes import FP32, Layer, Workload
from osftx.planning.estimate.state import KEPT_WHOLE

MOST_GATHERED = 1_000_000_000
"""Numbers; DeepSpeed's `max_live_parameters`, and the distance within which it does not let go of a weight."""
SUB_GROUP = 1_000_000_000
"""Numbers that a rank updates at a time; DeepSpeed's `sub_group_size`."""
FETCHED_AHEAD = 50_000_000
"""Numbers; DeepSpeed's `prefetch_bucket_size`. They arrive in one buffer and are copied out of it."""
COPIES_OF_LOGITS = 3
"""In fp32, while the loss goes backward: log-probabilities, their gradient, and that of the logits."""


@dataclass
class Step:
    """Bytes on the device, beside what is held between two steps."""

    gathered: int
    """Whole weights, the largest basis among them."""
    activations: int
    """What autograd keeps until the backward pass."""
    loss: int
    """Logits and their gradient."""
    gradients: int
    """Of the activations in one layer, with what is computed again for it, and of the largest trained weight."""
    sent: int
    """Gradients on their way to the other ranks."""
    optimizer: int
    """After the backward pass: copies of gradients, a weight that is merged."""
    rise: int
    """The most of these that is there at once."""


def of_step(work: Workload) -> Step:
    """See the module."""
    size, tokens = work.number_bytes, work.training.max_tokens_per_gpu
    hidden = work.vocabulary[1]
    layers = [_kept_of_layer(work, layer) for layer in work.layers]
    checkpointing = work.training.activation_checkpointing
    kept = size * hidden * len(layers) if checkpointing else sum(layers)
    again = max(layers, default=0) if checkpointing else 0
    in_flight = 2 * size * max((layer.widest_input for layer in work.layers), default=0)
    activations = tokens * (kept + (FP32 + 2 * size) * hidden)  # embeddings, and the last norm
    gathered, fetched = _gathered(work)
    loss, sent, optimizer = _loss(work), _sent(work), _optimizer(work)
    gradients = tokens * (again + in_flight) + size * max(work.trained, default=0)
    backward = gathered + activations + max(loss, gradients)
    if gradient_bucket(work.trained) < sum(work.trained):  # otherwise it is sent once, when the activations are gone
        backward += sent
    if not checkpointing or gathered < size * sum(_cut(work)):  # otherwise nothing is left to fetch by then
        backward += fetched
    rise = max(gathered + fetched, backward, sent, optimizer)
    return Step(gathered, activations, loss, gradients, sent, optimizer, rise)


def _kept_of_layer(work: Workload, layer: Layer) -> int:
    """Bytes a token that autograd keeps of a decoder layer."""
    size, hidden = work.number_bytes, work.vocabulary[1]
    kept = size * (layer.outputs + layer.inputs)
    if not work.training.use_liger:
        kept += size * layer.widest_input + 2 * hidden * (FP32 - size)
        if work.sizes.trains_norms:  # the norms' weights want what they scale
            kept += 2 * hidden * size
    return kept


def _cut(work: Workload) -> list[int]:
    """Numbers of each weight that has to be gathered."""
    return [numbers for numbers in work.weights if numbers > KEPT_WHOLE and work.ranks > 1]


def _gathered(work: Workload) -> tuple[int, int]:
    """(whole weights, what is fetched ahead of them) at a time."""
    cut, bases = _cut(work), work.sizes.added_frozen
    whole = min(sum(cut), max([MOST_GATHERED, *cut])) + (max(bases, default=0) if work.ranks > 1 else 0)
    return work.number_bytes * whole, work.number_bytes * min(sum(cut), max([FETCHED_AHEAD, *cut]))


def _sent(work: Workload) -> int:
    """The bucket, laid out for the other ranks; in 16 bits DeepSpeed copies it once more."""
    return (2 if work.number_bytes < FP32 else 1) * FP32 * gradient_bucket(work.trained)


def _loss(work: Workload) -> int:
    (words, hidden), tokens = work.vocabulary, work.training.max_tokens_per_gpu
    if not work.training.use_liger:
        return COPIES_OF_LOGITS * FP32 * tokens * words
    return (FP32 + 2 * work.number_bytes) * tokens * min(hidden, words)


def _optimizer(work: Workload) -> int:
    """AdamW reads the gradients from a copy; then the method does its part."""
    held = sum(-(-numbers // work.ranks) for numbers in work.trained)
    copied = 0 if work.offload.optimizer else FP32 * min(held, SUB_GROUP)
    return copied + work.sizes.after_step
