"""What training minimises: the lag class of every pair of a sequence, the order of distances, and more on demand."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atmoloss.heads import MetricHead, PretextModel
from atmoloss.training import artefacts
from atmoloss.training.config import TrainConfig

_TEMPERATURE = 0.1  # of the ranking terms, in units of log d


class SequenceObjective(nn.Module):
    """Encode sequences once and score all pairs.

    Args:
        model: encoder and head.
        config: of the run: weights of the terms, S, hours per class.
    """

    def __init__(self, model: PretextModel, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.n_times = n_times = config.n_times
        self.first, self.second = torch.triu_indices(n_times, n_times, 1)
        pair = {ij: p for p, ij in enumerate(zip(self.first.tolist(), self.second.tolist(), strict=True))}
        # Of three times i < j < k both (i, j) and (j, k) are nearer than (i, k).
        triples = list(itertools.combinations(range(n_times), 3))
        self.near = torch.tensor([p for i, j, k in triples for p in (pair[i, j], pair[j, k])], dtype=torch.long)
        self.far = torch.tensor([pair[i, k] for i, _, k in triples for _ in range(2)], dtype=torch.long)

    def forward(self, normalised: Tensor, hours: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Score (B·S, C, H, W) normalised fields, the times of a sequence one after the other.

        Args:
            normalised: fields.
            hours: (B, S), ascending.
            generator: on the CPU, of the artefact and detail terms.

        Returns:
            ``"loss"`` to minimise, and ``"cross_entropy"``, ``"accuracy"``, ``"ranking"`` (share of triples in
            the right order; metric head) and what else has a weight, for the log.
        """
        config = self.config
        count = len(normalised)
        teaches = bool(config.artefact_weight or config.detail_weight)
        if teaches:
            truth = self._for_teachers(normalised)
            smooth, pattern = artefacts.degrade(truth, generator)
            made = {"smooth": smooth}
            if config.artefact_weight:
                made["pattern"] = pattern
            if config.detail_weight:
                made["detail"] = artefacts.misplace(truth, smooth, config.detail_coherence, generator)
            normalised = torch.cat((normalised, *made.values())).contiguous(memory_format=_format_of(normalised))
        every = self.model.encoder(normalised)
        features = {name: f[:count] for name, f in every.items()}
        classes = (hours[:, self.second] - hours[:, self.first]) // config.base_step - 1
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
                ranking = F.softplus(-gap / _TEMPERATURE).mean()
        else:
            logits = head(*(self._pairs(features, index) for index in (self.first, self.second)))
            logits = logits.unflatten(0, classes.shape)
        flat, target = logits.float().flatten(0, 1), classes.flatten()
        out["cross_entropy"] = F.cross_entropy(flat, target)
        out["accuracy"] = (flat.argmax(1) == target).float().mean().detach()
        out["loss"] = out["cross_entropy"]
        if ranking is not None and config.ranking_weight:
            out["loss"] = out["loss"] + config.ranking_weight * ranking
        if teaches and isinstance(head, MetricHead):
            truth_features = {name: self._for_teachers(f) for name, f in features.items()}
            parts = {name: f[count:].chunk(len(made)) for name, f in every.items()}
            to_truth = {
                kind: head.distance(truth_features, {n: f[i] for n, f in parts.items()}).clamp_min(1e-12).log()
                for i, kind in enumerate(made)
            }
            gaps = {}
            if config.artefact_weight:
                gaps["artefacts"] = config.artefact_weight, to_truth["pattern"] - to_truth["smooth"]
            if config.detail_weight:
                gaps["detail"] = config.detail_weight, to_truth["smooth"] - to_truth["detail"]
            for name, (weight, gap) in gaps.items():
                out[name] = (gap > 0).float().mean().detach()
                out["loss"] = out["loss"] + weight * F.softplus(-gap / _TEMPERATURE).mean()
        return out

    def _for_teachers(self, x: Tensor) -> Tensor:
        """Return the first field of every fourth sequence: enough to learn from, at an eighth of the cost of a step."""
        return x[:: 4 * self.n_times]

    def _pairs(self, features: Mapping[str, Tensor], index: Tensor) -> dict[str, Tensor]:
        return {name: f.reshape(-1, self.n_times, *f.shape[1:])[:, index].flatten(0, 1) for name, f in features.items()}


def _format_of(x: Tensor) -> torch.memory_format:
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format
