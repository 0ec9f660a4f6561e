"""What is true of a network in penalty mode: radii by the product of its layers' exact norms, and never by 1.

Soft layers are not nonexpansive, so the gap alone proves nothing. But maps in a sequence are Lipschitz with the product
of their constants, whatever the weights are: a soft layer's is its operator norm, that of everything between the layers
(activations, pooling; section 2.2) is 1. With P the product along the trunk and a label's stack, Lemmas 1 and 6 hold
for the logits divided by P: the answer holds within ``gap / (2 P)``, or ``gap / (sqrt(2) P)`` for one joint network.
"""

import math
from collections.abc import Iterable, Iterator
from itertools import accumulate
from operator import mul

import torch
from torch import Tensor, nn

from l2nnn_lightning.nn.certificates import Certificate, Rule, certify_pairs
from l2nnn_lightning.nn.norms import layer_norms
from l2nnn_lightning.nn.parametrization import fold, nonexpansive_layers, scaling_of

__all__ = ["SoftRule", "in_sequence", "lipschitz_product"]

# Signals within these factors of the image's are far from the ends of float32, also squared.
_SMALLEST, _LARGEST = 1e-12, 1e12
# A product of n rounded numbers is off by n ulp at most.
_OUTWARD = 1 + 1e-12


class SoftRule(Rule):
    """The rule of a network in penalty mode: leads divided by constants that follow from the product of exact norms.

    Rounding. An error made in some layer is amplified by the layers behind it. So where a hard network's allowance is a
    few ulp of the image and of the logits, here it is as many ulp of the sum of all signals, each multiplied by the
    product of the norms behind it; for that the rule computes them anew.

    Args:
        name: what the radius follows from; ``, penalty mode`` is added.
        chain: the modules in the order in which a signal passes them, in evaluation mode.
        constants: how much each difference of two logits, (K, K), or any one, (), moves per unit of input, at most;
            float64.
        product: how much each logit moves per unit of input, at most.

    Raises:
        ValueError: if the chain's constant is not a product of layers' norms, or is not finite, or out of all
            proportion: below 1e-12 or above 1e12, from the image up to some layer.

    Shape:
        (B, K), (B, C, H, W) -> three tensors (B,).

    References:
        Qian and Wegman, *L2-Nonexpansive Neural Networks*, ICLR 2019, sections 2.2 and 2.4, appendix A.1.
    """

    is_graph = False

    def __init__(self, name: str, chain: Iterable[nn.Module], constants: Tensor, product: float) -> None:
        super().__init__()
        # No buffer, as in PairRule.
        self.name, self.constants, self.product = f"{name}, penalty mode", constants, product
        modules = list(in_sequence(chain))
        norms = [_lipschitz(module) for module in modules]
        reached = list(accumulate(norms, mul))
        # A comparison with nan is false.
        wrong = [value for value in (*reached, product) if not _SMALLEST < value < _LARGEST]
        if wrong:
            raise ValueError(f"the product of exact norms is {wrong[0]:.3g} at some layer, which proves nothing")
        #: By what an error of the image, and of what each module gives, is multiplied on its way to the logits.
        self.behind = [_OUTWARD * part for part in accumulate(reversed(norms), mul, initial=1.0)][::-1]
        self.steps = nn.ModuleList(fold(module) for module in modules)

    @torch.no_grad()
    def forward(self, logits_BK: Tensor, image: Tensor) -> Certificate:
        """Divide the leads, see :func:`certify_pairs`."""
        z = image
        signal_B = self.behind[0] * _norm(z)
        for step, behind in zip(self.steps, self.behind[1:], strict=True):
            z = step(z)
            signal_B = signal_B + behind * _norm(z)
        labels = logits_BK.shape[1]
        constant_KK = self.constants.expand(labels, labels)
        # The sum grows by the product for each signal in it, and so do the logits.
        growth = (len(self.behind) + 1) * self.behind[0]
        return certify_pairs(logits_BK, constant_KK, signal_B.nan_to_num(torch.inf, torch.inf), growth)


def lipschitz_product(chain: nn.Module) -> float:
    """Multiply the exact norms along a chain of modules, soft or hard, rounded up: it is Lipschitz with the product.

    Unlike :func:`chain_norm` it may exceed 1, and no module counts as 1 that holds such layers within: the constants
    of residual blocks and of recurrent layers are no products.

    Raises:
        ValueError: if there is such a module.

    Example:
        >>> from l2nnn_lightning.nn.parametrization import nonexpansive
        >>> layer = nonexpansive(nn.Linear(2, 2, bias=False))
        >>> layer.weight = 3 * torch.eye(2)
        >>> round(lipschitz_product(nn.Sequential(layer, nn.ReLU(), layer)), 4)
        9.0
    """
    return math.prod(_lipschitz(module) for module in in_sequence([chain])) * _OUTWARD


def in_sequence(chain: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """Iterate over the modules of a chain, those of sequences within it one by one."""
    for module in chain:
        if isinstance(module, nn.Sequential):
            yield from in_sequence(module)
        else:
            yield module


def _lipschitz(module: nn.Module) -> float:
    if scaling_of(module) is not None:
        return float(layer_norms(module).max())
    if any(True for _ in nonexpansive_layers(module)):
        raise ValueError(f"the constant of {type(module).__name__} is no product of exact norms: nothing is proved")
    return 1.0


def _norm(signal: Tensor) -> Tensor:
    norm_B: Tensor = torch.linalg.vector_norm(signal.flatten(1), dim=1)
    return norm_B
