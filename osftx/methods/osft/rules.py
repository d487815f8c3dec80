"""Lists the rules that choose trainable directions, by the value of `osft.subspace`. A new rule is added here."""

from osftx.config.schema import OsftConfig
from osftx.methods.osft.by_activations import ByActivations
from osftx.methods.osft.by_weights import ByWeights
from osftx.methods.osft.subspace_rule import SubspaceRule

RULES: dict[str, SubspaceRule] = {rule.name: rule for rule in (ByWeights(), ByActivations())}


def rule_of(osft: OsftConfig) -> SubspaceRule:
    """Returns the rule of a configuration whose `osft.subspace` is valid."""
    return RULES[osft.subspace]
