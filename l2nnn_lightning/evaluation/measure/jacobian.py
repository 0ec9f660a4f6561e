"""The norm of the Jacobian at an image: how steep the network is there, its local Lipschitz constant (section 3.1)."""

import torch
from torch import Tensor, nn

from l2nnn_lightning.attacks.guard import undisturbed

__all__ = ["jacobian_norms"]


def jacobian_norms(network: nn.Module, images: Tensor) -> Tensor:
    """Compute the L2 norm, the largest singular value, of the Jacobian of the logits at every image, exactly.

    It is at most 1 for one jointly nonexpansive network, and at most sqrt(K) for K overlapping ones: each logit is
    nonexpansive, but they may all move at once.

    Args:
        network: maps images (B, ...) to logits (B, K). Used in evaluation mode, left untouched.
        images: (B, ...), floating. K gradients of this size are held at once.

    Returns:
        The norms, (B,), float32.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
        >>> _ = network[1].weight.data.copy_(torch.tensor([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]]))
        >>> jacobian_norms(network, torch.rand(2, 3))
        tensor([4., 4.])
    """
    with undisturbed(network):
        image = images.detach().clone().requires_grad_()
        logits = network(image)
        rows = [
            torch.autograd.grad(logit.sum(), image, retain_graph=k + 1 < logits.shape[1])[0].flatten(1)
            for k, logit in enumerate(logits.unbind(1))
        ]
        jacobian_BKD = torch.stack(rows, 1)
        exact = torch.float32 if image.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        gram_BKK = (jacobian_BKD.to(exact) @ jacobian_BKD.to(exact).mT).cpu()
        squares_B: Tensor = torch.linalg.eigvalsh(gram_BKK)[:, -1]
        return squares_B.clamp_min(0).sqrt().float()
