"""What training minimises: the lag class of every pair of a sequence, and the order of its distances."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atmoloss.heads import MetricHead, PretextModel


class SequenceObjective(nn.Module):
    """Encode sequences once and score all pairs.

    Args:
        model: encoder and head.
        n_times: S.
        base_step: hours per lag class.
        ranking_weight: of the ranking term; metric head only.
        ranking_temperature: in units of log d.
    """

    def __init__(
        self, model: PretextModel, n_times: int, base_step: int, ranking_weight: float, ranking_temperature: float
    ) -> None:
        super().__init__()
        self.model = model
        self.n_times, self.base_step = n_times, base_step
        self.ranking_weight, self.ranking_temperature = ranking_weight, ranking_temperature
        self.first, self.second = torch.triu_indices(n_times, n_times, 1)
        pair = {ij: p for p, ij in enumerate(zip(self.first.tolist(), self.second.tolist(), strict=True))}
        # Of three times i < j < k both (i, j) and (j, k) are nearer than (i, k).
        triples = list(itertools.combinations(range(n_times), 3))
        self.near = torch.tensor([p for i, j, k in triples for p in (pair[i, j], pair[j, k])], dtype=torch.long)
        self.far = torch.tensor([pair[i, k] for i, _, k in triples for _ in range(2)], dtype=torch.long)

    def forward(self, normalised: Tensor, hours: Tensor) -> dict[str, Tensor]:
        """Score (B·S, C, H, W) normalised fields, the times of a sequence one after the other.

        Args:
            normalised: fields.
            hours: (B, S), ascending.

        Returns:
            ``"loss"`` to minimise, and ``"cross_entropy"``, ``"accuracy"``, ``"ranking"`` (share of triples in
            the right order; metric head) for the log.
        """
        features = self.model.encoder(normalised)
        classes = (hours[:, self.second] - hours[:, self.first]) // self.base_step - 1
        head = self.model.head
        out: dict[str, Tensor] = {}
        ranking: Tensor | None = None
        if isinstance(head, MetricHead):
            distances = head.pair_distances(features, self.n_times)
            logits = head.logits(distances)
            if len(self.near):
                log_d = distances.clamp_min(1e-12).log()
                gap = log_d[:, self.far] - log_d[:, self.near]
                out["ranking"] = (gap > 0).float().mean().detach()
                ranking = F.softplus(-gap / self.ranking_temperature).mean()
        else:
            logits = head(*(self._pairs(features, index) for index in (self.first, self.second)))
            logits = logits.unflatten(0, classes.shape)
        flat, target = logits.float().flatten(0, 1), classes.flatten()
        out["cross_entropy"] = F.cross_entropy(flat, target)
        out["accuracy"] = (flat.argmax(1) == target).float().mean().detach()
        out["loss"] = out["cross_entropy"]
        if ranking is not None and self.ranking_weight:
            out["loss"] = out["loss"] + self.ranking_weight * ranking
        return out

    def _pairs(self, features: Mapping[str, Tensor], index: Tensor) -> dict[str, Tensor]:
        return {name: f.reshape(-1, self.n_times, *f.shape[1:])[:, index].flatten(0, 1) for name, f in features.items()}
