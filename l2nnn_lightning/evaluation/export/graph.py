"""The network that is exported: folded weights, and the certificate computed beside the logits."""

import torch
from torch import Tensor, nn

from l2nnn_lightning.data.errors import UserError
from l2nnn_lightning.models import L2NNN, TemplateNet
from l2nnn_lightning.nn import fold
from l2nnn_lightning.nn.certificates import Certificate, certify_logits, certify_pairs, no_certificate
from l2nnn_lightning.training.classifier import Classifier, L2NNNClassifier

__all__ = ["OUTPUTS", "CertifiedNetwork"]

OUTPUTS = ("logits", "label", "gap", "radius")


class CertifiedNetwork(nn.Module):
    """A plain network that returns what it answers and what is proved, both from the same logits.

    The rule and its constants are those of the classifier. Where it proves nothing, because it is soft or an ordinary
    one, the radius is 0.

    Args:
        classifier: the classifier, on the CPU; left as it is.

    Shape:
        (B, C, H, W) in [0, 1] -> logits (B, K), label int64 (B,), gap (B,), radius (B,).

    Raises:
        UserError: if the certificate of this network is no formula.
    """

    pair_constants: Tensor | None

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        network = classifier.network
        if isinstance(network, TemplateNet):
            raise UserError(
                "the certificate of templates is a search among rival templates, which no graph holds: "
                "export with --format safetensors"
            )
        self.network = fold(network)
        self.gap_lipschitz: float | None = None
        self.register_buffer("pair_constants", None)
        if isinstance(classifier, L2NNNClassifier) and classifier.is_hard:
            if classifier.pairwise and isinstance(network, L2NNN):
                self.pair_constants = network.pair_constants()
            else:
                self.gap_lipschitz = float(network.gap_lipschitz)  # type: ignore[arg-type]
        self.eval()
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute logits and certificate."""
        logits: Tensor = self.network(image)
        return logits, *self._prove(image, logits)

    def _prove(self, image: Tensor, logits: Tensor) -> Certificate:
        signal_B = torch.linalg.vector_norm(image.flatten(1), dim=1)
        if self.pair_constants is not None:
            return certify_pairs(logits, self.pair_constants, signal_B)
        if self.gap_lipschitz is not None:
            return certify_logits(logits, self.gap_lipschitz, signal_B)
        return no_certificate(logits)
