"""Encoder, head and normalisation that a training starts from, and what optimises them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from atmoloss import weights as weights_folder
from atmoloss.data.sequences import SequenceDataset
from atmoloss.data.sources import FieldSource
from atmoloss.errors import ConfigError
from atmoloss.extractor import load_strictly
from atmoloss.heads import PretextModel, build_head
from atmoloss.networks import Encoder, build_encoder
from atmoloss.normalization import LogNormalization
from atmoloss.prediction import PredictionModel, build_prediction_head
from atmoloss.training.config import TrainConfig

_NORMALISATION_BATCHES = 64


def build_model(config: TrainConfig) -> PretextModel:
    """Build the encoder and head of a configuration, with weights drawn from its seed."""
    torch.manual_seed(config.seed)
    encoder = build_encoder(config.encoder, in_channels=len(config.variables), **config.encoder_options)
    head: dict[str, Any] = {"kind": config.head, "n_classes": config.n_classes}
    if config.head == "published":
        head["input_size"] = [config.patch_sizes[0]] * 2
    return PretextModel(encoder, build_head(head, encoder))


def build_prediction(config: TrainConfig) -> PredictionModel:
    """Build the encoder and head of a configuration that predicts, with weights drawn from its seed."""
    torch.manual_seed(config.seed)
    encoder = build_encoder(config.encoder, in_channels=len(config.variables), **config.encoder_options)
    frames = config.n_times - 1 if config.pretext == "next" else config.n_times
    head = {"kind": "space_time", "frames": frames, **config.head_options}
    return PredictionModel(encoder, build_prediction_head(head, encoder))


def load_initial(config: TrainConfig, model: PretextModel | PredictionModel) -> LogNormalization | None:
    """Load the configuration's ``initial_weights`` into ``model`` and return their normalisation.

    Of weights that predict only the encoder is taken to tell lags, and the other way round; so, too, where no head is.

    ``ConfigError`` for another architecture or other channels, ``WeightsError`` for weights that cannot be read.
    """
    if not config.initial_weights:
        return None
    info, tensors = weights_folder.load(weights_folder.resolve(config.initial_weights))
    pairs: dict[str, tuple[Any, Any]] = {
        "variables": (list(info.channel_names), list(config.variables)),
        # Through the constructor: what older weights do not say has its default.
        "encoder": (Encoder(**info.encoder).architecture, model.encoder.architecture),
    }
    predicts = isinstance(model, PredictionModel)
    only_encoder = info.head is None or (info.head["kind"] == "space_time") != predicts
    if not only_encoder:
        pairs["head"] = (info.head, model.head.architecture)
    for key, (stored, expected) in pairs.items():
        if stored != expected:
            raise ConfigError(f"initial_weights: {info.id} have {key} {stored}, expected {expected}")
    load_strictly(model.encoder, tensors, "encoder.", info.id)
    if not only_encoder:
        load_strictly(model.head, tensors, "head.", info.id)
    return LogNormalization(**info.normalization)


def fit_normalization(config: TrainConfig, train: Sequence[FieldSource]) -> LogNormalization:
    """Fit the constants to patches drawn as in training, so that sources count as they will."""
    # Another stream than training's: seeds below 2**32 are free for users.
    sample = SequenceDataset(train, config, seed=config.seed + 2**32, length=_NORMALISATION_BATCHES)
    return LogNormalization.fit(lambda: (sample[i].fields.flatten(0, 1) for i in range(len(sample))))


def make_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Build the optimizer; weight decay acts on convolution and dense kernels only."""
    kernels = [m.weight for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    ids = {id(p) for p in kernels}
    groups: list[dict[str, Any]] = [
        {"params": kernels, "weight_decay": config.weight_decay},
        {"params": [p for p in model.parameters() if id(p) not in ids], "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, config.learning_rate, momentum=0.9)
    return torch.optim.AdamW(groups, config.learning_rate)


def make_scheduler(config: TrainConfig, optimizer: torch.optim.Optimizer, done: int = 0) -> Any:
    """One-cycle for AdamW; for SGD the original's plateau rule on the mean training loss of an epoch.

    A run that was lengthened after ``done`` steps has a cycle of its own for the steps after them, to the same highest
    rate (a warm restart): the first one ended with a rate of next to nothing.
    """
    if config.optimizer == "adamw":
        steps = config.steps - done
        rising = min(0.2, 1 - 1 / (steps + 1))
        if rising * steps == 1:  # a rise that ends with the step it starts with: torch divides by its length, 0
            rising = 1.5 / steps
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=steps, pct_start=rising)
    # Keras' patience 8: it acts on the eighth epoch without progress, torch on the one after its patience.
    return torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.1, patience=7, threshold=0.04, threshold_mode="abs", min_lr=1e-5
    )


def step_scheduler(scheduler: Any, config: TrainConfig, step: int, epoch_loss: list[float]) -> None:
    """Advance the schedule after a step; ``epoch_loss``, sum and count of losses, starts afresh with every epoch."""
    if config.optimizer == "adamw":
        if step < config.steps:
            scheduler.step()
    elif step <= config.subset_steps:
        epoch_loss[:] = [0.0, 0.0]
    elif config.epoch_steps and (step - config.subset_steps) % config.epoch_steps == 0:
        scheduler.step(epoch_loss[0] / epoch_loss[1])
        epoch_loss[:] = [0.0, 0.0]


def clip_gradients(model: nn.Module, config: TrainConfig) -> None:
    """Clip the gradient: as a whole, or (``sgd``, as Keras' clipnorm does) each tensor on its own."""
    parameters = list(model.parameters())
    for tensors in [parameters] if config.optimizer == "adamw" else [[p] for p in parameters]:
        nn.utils.clip_grad_norm_(tensors, config.gradient_clip)


def freeze_batch_norm(module: nn.Module) -> None:
    """Let batch norm use its running statistics, and keep them, until the next ``module.train()``."""
    for norm in module.modules():
        if isinstance(norm, (nn.BatchNorm2d, nn.SyncBatchNorm)):
            norm.eval()
