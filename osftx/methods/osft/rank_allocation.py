"""How the free rank is shared out among the layers: the same share for each, or less for those that do more.

By layer importance (Nayak et al., arXiv 2504.07097, section on adaptive rank selection): I(l) is the mean cosine
similarity between what layer l reads and what it writes, over the layers' mean, and layer l keeps the share
`mrr + I(l) (trr - mrr)` of its directions, with mrr the minimum and trr = 1 - ratio the target retention ratio. A layer
that leaves its input nearly as it was counts as important there. Pure.
"""

import re
from collections.abc import Mapping, Sequence

from osftx.errors import ConfigurationError
from osftx.models.families import DECODER_LAYER

_IN_LAYER = re.compile(rf"({DECODER_LAYER})\..*")


def layers_of(targets: Sequence[str]) -> dict[str, str]:
    """The decoder layer that each target lies in, by their module names.

    Raises ConfigurationError for one outside of any.
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
    """The unfreeze ratio of each layer, 0 to 1, for a mean of `ratio` (but for what the ends cut off).

    `similarity` is the mean cosine of each layer's input and output. Rounded to 6 digits, as all ratios are. Raises
    ValueError where the similarities have no positive mean to compare with.
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
    """Raises ConfigurationError where ranks cannot be shared out among the layers of `targets`.

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
