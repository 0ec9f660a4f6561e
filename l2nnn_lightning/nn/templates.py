"""A head of templates: several linear scores per label, distances between their cells, and k-means to place them."""

import torch
from torch import Tensor, nn

from l2nnn_lightning.nn.certificates import SignedRadius
from l2nnn_lightning.nn.template_radius import TemplateRadius, certify_templates, move_in_box

__all__ = ["Templates", "kmeans"]

# Norms this small would make gradients explode; templates of different labels are never so close in earnest.
_TINY = 1e-12
# Enough for a gradient; the certificate takes as many as it needs.
_NEWTON_STEPS = 8
# Points whose nearest centres are looked for at once.
_CHUNK = 4096


class Templates(nn.Module):
    """Score features with several templates per label; a label's logit is its best score.

    ``s_km = w_km . z + b_km`` and ``y_k = max_m s_km``. With ``b = -|w|^2 / 2``, the default, the label is that of the
    nearest template: ``s_km = (|z|^2 - |z - w_km|^2) / 2``. No weight is constrained: the certificate divides by the
    distances between templates (see :mod:`l2nnn_lightning.nn.template_radius`).

    Args:
        in_features: the features F.
        num_labels: the number K of labels.
        templates_per_label: the number M of templates of each label, >= 1.
        nearest: nearest template; otherwise every offset b_km is trained on its own.
        dropout: the chance that a template is not taken for its own label's samples in a step of training, in [0, 1):
            others nearby must then stand in for it. Logits and certificates know nothing of it.

    Shape:
        (B, F) -> (B, K).
    """

    def __init__(
        self, in_features: int, num_labels: int, templates_per_label: int, nearest: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if templates_per_label < 1:
            raise ValueError(f"templates_per_label must be at least 1, got {templates_per_label}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")
        self.dropout = dropout
        self.weight = nn.Parameter(torch.rand(num_labels, templates_per_label, in_features))
        self.free_offset = None if nearest else nn.Parameter(torch.zeros(num_labels, templates_per_label))
        self._offsets_of_nearest()

    @torch.no_grad()
    def place(self, label: int, features_NF: Tensor, generator: torch.Generator) -> None:
        """Put the templates of one label at the k-means centres of its training images' features, at least one."""
        self.weight[label] = kmeans(features_NF, self.weight.shape[1], generator)
        self._offsets_of_nearest()

    def offsets(self) -> Tensor:
        """Return b_km, (K, M)."""
        return -self.weight.square().sum(2) / 2 if self.free_offset is None else self.free_offset

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep the offsets as numbers, whatever happens to the templates: nothing of them is left to round."""
        self.free_offset = nn.Parameter(self.offsets())

    def scores(self, features_BF: Tensor) -> Tensor:
        """Compute every template's score: (B, F) -> (B, K, M)."""
        labels, count, _ = self.weight.shape
        return torch.addmm(self.offsets().flatten(), features_BF, self.weight.flatten(0, 1).mT).view(-1, labels, count)

    def forward(self, features_BF: Tensor) -> Tensor:
        """Compute the logits."""
        return self.scores(features_BF).amax(2)

    def certify(
        self, features_BF: Tensor, label_B: Tensor, *, box: bool = False, quick: bool = False
    ) -> TemplateRadius:
        """Prove radii for scores in the weight's format; see :func:`certify_templates`.

        With ``box`` the features must be the images' own pixels.
        """
        weight, offsets = self.weight.detach(), self.offsets().detach()
        return certify_templates(features_BF, label_B, weight, offsets, box=box, quick=quick)

    def signed_radius(self, features_BF: Tensor, label_B: Tensor, *, box: bool = False) -> SignedRadius:
        """Measure the distance to the nearest rival's bisecting hyperplane, for training.

        ``min_n (s_m(z) - s_n(z)) / |w_m - w_n|`` over the templates n of other labels, m being the label's template
        that scores highest, of those that are not dropped. Where the label wins, and with ``box``, it is the length of
        the shortest move inside [0, 1] to that hyperplane instead; its derivative is that of the scores' difference at
        the moved image, times ``t / |delta|`` (the envelope theorem: the constraint's multiplier is t).

        Which templates are meant is found without gradients, at the cost of two matrix products. With ``box`` the
        features are pixels that must stay in [0, 1].
        """
        with torch.no_grad(), torch.autocast(features_BF.device.type, enabled=False):
            rows_B = torch.arange(len(label_B), device=label_B.device)
            weight_NF = self.weight.flatten(0, 1)
            z_BF = features_BF.detach().to(weight_NF.dtype)
            scores_BKM = self.scores(z_BF)
            logits_BK = scores_BKM.amax(2)
            own_score_B, own_B = self._without_dropped(scores_BKM[rows_B, label_B]).max(1)
            own_B = own_B + label_B * scores_BKM.shape[2]
            squared_N = weight_NF.square().sum(1)
            squared_BN = squared_N[own_B, None] + squared_N - 2 * weight_NF[own_B] @ weight_NF.mT
            radius_BN = (own_score_B[:, None] - scores_BKM.flatten(1)) * squared_BN.clamp_min(_TINY).rsqrt()
            radius_BN.view_as(scores_BKM)[rows_B, label_B] = torch.inf
            rival_B = radius_BN.argmin(1)
        own_BF, own_offset_B = self._select(own_B)
        rival_BF, rival_offset_B = self._select(rival_B)
        z_BF = features_BF.to(own_BF.dtype)
        away_BF, offset_B = own_BF - rival_BF, own_offset_B - rival_offset_B
        needed_B = (away_BF * z_BF).sum(1) + offset_B
        radius_B = needed_B / torch.linalg.vector_norm(away_BF, dim=1).clamp_min(_TINY**0.5)
        if not box:
            return SignedRadius(radius_B, logits_BK)
        step_B, norm_B, move_BF = move_in_box(z_BF.detach(), -away_BF.detach(), needed_B.detach(), _NEWTON_STEPS)
        won_B = (norm_B > 0) & norm_B.isfinite()
        at_moved_B = (away_BF * (z_BF + move_BF)).sum(1) + offset_B
        pull_B = step_B / torch.where(won_B, norm_B, 1)
        box_B = norm_B + pull_B * (at_moved_B - at_moved_B.detach())
        return SignedRadius(torch.where(won_B, box_B, radius_B), logits_BK)

    def _without_dropped(self, score_BM: Tensor) -> Tensor:
        """Lower the scores of templates that are dropped from this step; never all of a sample's."""
        if not self.training or self.dropout == 0:
            return score_BM
        is_dropped_BM = torch.rand_like(score_BM) < self.dropout
        is_dropped_BM &= ~is_dropped_BM.all(1, keepdim=True)
        return score_BM.masked_fill(is_dropped_BM, -torch.inf)

    def _select(self, index_B: Tensor) -> tuple[Tensor, Tensor]:
        """Look up templates by their position in the flattened (K M): weights (B, F) and offsets (B,)."""
        weight_BF = self.weight.flatten(0, 1)[index_B]
        if self.free_offset is None:
            return weight_BF, -weight_BF.square().sum(1) / 2
        return weight_BF, self.free_offset.flatten()[index_B]

    @torch.no_grad()
    def _offsets_of_nearest(self) -> None:
        """Begin as the nearest template where the offsets are free."""
        if self.free_offset is not None:
            self.free_offset.copy_(-self.weight.square().sum(2) / 2)


@torch.no_grad()
def kmeans(points_NF: Tensor, count: int, generator: torch.Generator, iterations: int = 10) -> Tensor:
    """Find ``count`` centres by Lloyd's algorithm, starting at points drawn without replacement on the CPU.

    A centre that loses all its points stays where it is. With fewer points than centres, points are used repeatedly.

    Shape:
        (N, F) -> (count, F).

    Example:
        >>> points = torch.tensor([[0.0], [0.2], [5.0], [5.2]])
        >>> kmeans(points, 2, torch.Generator().manual_seed(0)).flatten().sort().values
        tensor([0.1000, 5.1000])
    """
    order = torch.randperm(len(points_NF), generator=generator)
    order = order.repeat(-(-count // len(order)))[:count]
    centres_CF = points_NF[order.to(points_NF.device)].clone()
    if count >= len(points_NF):
        return centres_CF
    for _ in range(iterations):
        half_C = centres_CF.square().sum(1) / 2
        nearest_N = torch.cat([(part @ centres_CF.mT - half_C).argmax(1) for part in torch.split(points_NF, _CHUNK)])
        sizes_C = torch.bincount(nearest_N, minlength=count)
        sums_CF = torch.zeros_like(centres_CF).index_add_(0, nearest_N, points_NF)
        means_CF = sums_CF / sizes_C.clamp_min(1)[:, None]
        centres_CF = torch.where((sizes_C > 0)[:, None], means_CF, centres_CF)
    return centres_CF
