"""Allocates the free rank to the layers: the same share for each, or a smaller share for more important layers.

Layer importance follows Nayak et al. (arXiv 2504.07097), section on adaptive rank selection. I(l) is the mean cosine
similarity between the input and the output of layer l, divided by the mean over the layers. Layer l keeps the share
`mrr + I(l) (trr - mrr)` of its directions, with mrr the minimum and trr = 1 - ratio the target retention ratio. A layer
whose output is close to its input therefore counts as important. The module is pure.
"""

import re
from collections.abc import Mapping, Sequence

from osftx.errors import ConfigurationError
from osftx.models.families import DECODER_LAYER

_IN_LAYER = re.compile(rf"({DECODER_LAYER})\..*")


def layers_of(targets: Sequence[str]) -> dict[str, str]:
    """Returns the decoder layer that each target is in, by their module names.

    Raises ConfigurationError for a target outside of all decoder layers.
    """
    found = {}
    for target in targets:
        match = _IN_LAYER.fullmatch(target)
        if match is None:
            raise ConfigurationError(
                [
                    f"osft.rank_allocation=layer_importance: target {target} lies in no decoder layer (layers.N, "
                    "h.N or blocks.N), so it has no importance; leave it out of osft.target_patterns, or set it to "
                    "uniform"
                ]
            )
        found[target] = match[1]
    return found


def layer_ratios(similarity: Mapping[str, float], ratio: float, minimum_retention: float) -> dict[str, float]:
    """Returns the unfreeze ratio of each layer, 0 to 1.

    Their mean is `ratio`, except if single ratios are cut off at 0 or 1. `similarity` is the mean cosine of each
    layer's input and output. The ratios are rounded to 6 digits, as all ratios are. Raises ValueError if the mean of
    the similarities is not positive.
    """
    mean = sum(similarity.values()) / len(similarity)
    if not mean > 0:
        raise ValueError(
            f"the layers' inputs and outputs have a mean cosine of {mean:g}, which ranks no layers; set "
            "osft.rank_allocation=uniform"
        )
    spread = 1.0 - ratio - minimum_retention
    kept = {layer: minimum_retention + cosine / mean * spread for layer, cosine in similarity.items()}
    return {layer: round(1.0 - min(max(share, 0.0), 1.0), 6) for layer, share in kept.items()}


def check_allocation(targets: Sequence[str], ratios: Mapping[str, float], minimum_retention: float) -> None:
    """Raises ConfigurationError if ranks cannot be allocated to the layers of `targets`.

    `ratios` are the unfreeze ratios of the phases, by name.
    """
    layers_of(targets)
    problems = [
        f"osft.minimum_retention={minimum_retention}: phase {name} keeps {1 - ratio:g} of the directions on average "
        f"(unfreeze ratio {ratio:g}); set it to {1 - ratio:g} or less"
        for name, ratio in ratios.items()
        if round(1 - ratio, 6) < minimum_retention  # 1 - 0.9 is not 0.1 in binary
    ]
    if problems:
        raise ConfigurationError(problems)
