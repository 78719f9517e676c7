"""What training minimises: the lag class of every pair of a sequence, and ranking terms: which distance is larger."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atmoloss.heads import MetricHead, PretextModel
from atmoloss.training import corruptions
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
            generator: on the CPU, of the corruptions.

        Returns:
            ``"loss"`` to minimise, and for the log ``"cross_entropy"``, ``"accuracy"``, and of each ranking term the
            share of pairs of distances in the right order: ``"ranking"`` (metric head), and ``"artefacts"`` and
            ``"detail"`` where they have a weight.
        """
        count = len(normalised)
        corrupted = self._corrupted(self._every_fourth(normalised), generator)
        if corrupted:
            normalised = torch.cat((normalised, *corrupted.values())).contiguous(memory_format=torch.channels_last)
        encoded = self.model.encoder(normalised)
        features = {name: f[:count] for name, f in encoded.items()}
        out = self._lag_terms(features, hours)
        if corrupted:
            parts = {name: f[count:].chunk(len(corrupted)) for name, f in encoded.items()}
            by_kind = {kind: {name: f[i] for name, f in parts.items()} for i, kind in enumerate(corrupted)}
            self._add_auxiliary_terms(out, features, by_kind)
        return out

    def _lag_terms(self, features: Mapping[str, Tensor], hours: Tensor) -> dict[str, Tensor]:
        """Return cross-entropy of the lag classes and the ranking term of the sequence."""
        head = self.model.head
        classes = (hours[:, self.second] - hours[:, self.first]) // self.config.base_step - 1
        out: dict[str, Tensor] = {}
        cost: Tensor | float = 0.0
        if isinstance(head, MetricHead):
            distances = head.pair_distances(features, self.n_times)
            logits = head.logits(distances)
            if len(self.near):
                log_d = distances.clamp_min(1e-12).log()
                out["ranking"], cost = _ranking(log_d[:, self.far] - log_d[:, self.near])
        else:
            by_time = {name: f.reshape(-1, self.n_times, *f.shape[1:]) for name, f in features.items()}
            pairs = ({n: f[:, index].flatten(0, 1) for n, f in by_time.items()} for index in (self.first, self.second))
            logits = head(*pairs).unflatten(0, classes.shape)
        flat, target = logits.float().flatten(0, 1), classes.flatten()
        out["loss"] = out["cross_entropy"] = F.cross_entropy(flat, target)
        out["accuracy"] = (flat.argmax(1) == target).float().mean().detach()
        if self.config.ranking_weight:
            out["loss"] = out["loss"] + self.config.ranking_weight * cost
        return out

    def _corrupted(self, truth: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the fields that auxiliary ranking terms compare with the truth, by kind."""
        config = self.config
        if not (config.artefact_weight or config.detail_weight):
            return {}
        smooth, patterned = corruptions.smooth_and_patterned(truth, generator)
        out = {"smooth": smooth}
        if config.artefact_weight:
            out["patterned"] = patterned
        if config.detail_weight:
            out["misplaced"] = corruptions.misplaced_detail(truth, smooth, config.detail_coherence, generator)
        return out

    def _add_auxiliary_terms(
        self, out: dict[str, Tensor], features: Mapping[str, Tensor], corrupted: Mapping[str, Mapping[str, Tensor]]
    ) -> None:
        """Ask that a pattern is farther from the truth than no small scales, and misplaced detail nearer."""
        head, config = self.model.head, self.config
        assert isinstance(head, MetricHead)  # a configuration with another head and such a weight is refused
        truth = {name: self._every_fourth(f) for name, f in features.items()}
        log_d = {kind: head.distance(truth, f).clamp_min(1e-12).log() for kind, f in corrupted.items()}
        terms = (
            ("artefacts", config.artefact_weight, "patterned", "smooth"),
            ("detail", config.detail_weight, "smooth", "misplaced"),
        )
        for name, weight, far, near in terms:
            if weight:
                out[name], cost = _ranking(log_d[far] - log_d[near])
                out["loss"] = out["loss"] + weight * cost

    def _every_fourth(self, x: Tensor) -> Tensor:
        """Return the first field of every fourth sequence: enough to learn from, at an eighth of the cost of a step."""
        return x[:: 4 * self.n_times]


def _ranking(gap: Tensor) -> tuple[Tensor, Tensor]:
    """Return the share of gaps (log of the distance that is to be larger, minus the other's) above zero, and a cost."""
    return (gap > 0).float().mean().detach(), F.softplus(-gap / _TEMPERATURE).mean()
