"""Several processes train one model: who they are, what they add up, and what they say when one is gone."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from inspect import signature
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from atmoloss.errors import AtmolossError, ConfigError, DistributedError

_T = TypeVar("_T")
# What gloo and the rendezvous store say when a process is gone, and the data loader when torchrun ends the job.
_LOST_WORDS = ("gloo", "Connection closed by peer", "Connection reset by peer", "Broken pipe", "DataLoader worker")


@dataclasses.dataclass(frozen=True)
class ProcessGroup:
    """The processes of one run; ``ProcessGroup()`` is a single process, for which every method is free.

    Attributes:
        rank: number of this process.
        world_size: how many there are.
        device: of torch, for this process.
    """

    rank: int = 0
    world_size: int = 1
    device: str = "cpu"

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and the log."""
        return self.rank == 0

    def run_on_main(self, work: Callable[[], _T]) -> _T:
        """Let process 0 do ``work`` (with files, which only it need see) and give all its result, or its error.

        Raises:
            AtmolossError, OSError: what ``work`` raised, in every process.
            DistributedError: ``work`` raised anything else, which process 0 raises itself.
        """
        if self.world_size == 1:
            return work()
        result_and_error: list[Any] = [None, None]
        own: BaseException | None = None
        if self.is_main:
            try:
                result_and_error[0] = work()
            except BaseException as error:  # the others wait for an answer, whatever it is
                own = result_and_error[1] = error
                if not isinstance(error, (AtmolossError, OSError)):
                    reason = f"{type(error).__name__}: {error}".splitlines()[0]
                    result_and_error[1] = DistributedError(f"training: process 0 failed with {reason}")
        dist.broadcast_object_list(result_and_error, src=0, device=torch.device(self.device))
        if result_and_error[1] is not None:
            raise own or result_and_error[1]
        result: _T = result_and_error[0]
        return result

    def check_equal(self, what: str, mine: Any) -> None:
        """Raise ``ConfigError`` in all processes where one has another ``mine`` than process 0."""
        if self.world_size == 1:
            return
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, mine)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise ConfigError(f"{what}: process {rank} has others than process 0; expected the same everywhere")

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Return the element-wise sum over processes of a float64 array, in each of them."""
        if self.world_size == 1:
            return values
        total = torch.as_tensor(values, dtype=torch.float64, device=self.device).clone()
        dist.all_reduce(total)
        return total.cpu().numpy()

    def mean(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Return the mean over processes of each number; all processes must give the same names in one order."""
        total = self.sum(np.array(list(numbers.values()), np.float64))
        return dict(zip(numbers, (total / self.world_size).tolist(), strict=True))

    def wrap(self, objective: nn.Module) -> nn.Module:
        """Return the module that synchronises gradients in its backward pass (their mean over processes).

        On GPUs batch norm is synchronised, too: its layers are replaced inside ``objective``. On CPUs torch
        cannot; every process normalises with the statistics of its share of the batch.
        """
        if self.world_size == 1:
            return objective
        cuda = self.device.startswith("cuda")
        if cuda:
            objective = nn.SyncBatchNorm.convert_sync_batchnorm(objective)  # type: ignore[no-untyped-call]
        ddp = nn.parallel.DistributedDataParallel
        options: dict[str, Any] = {"device_ids": [torch.device(self.device)]} if cuda else {}
        # Buffers are averaged where they are used, see average_buffers, instead of sent around each step.
        # torch 2.13 renamed the option.
        renamed = "forward_sync_buffers" in signature(ddp).parameters
        options["forward_sync_buffers" if renamed else "broadcast_buffers"] = False
        return ddp(objective, **options)

    @torch.no_grad()
    def average_buffers(self, module: nn.Module) -> None:
        """Replace the running statistics of batch norm by their mean over processes.

        They are exponential means of linear updates: averaging late gives what averaging each step would.
        """
        if self.world_size > 1:
            for buffer in module.buffers():
                if buffer.is_floating_point():
                    dist.all_reduce(buffer)
                    buffer /= self.world_size


SINGLE_PROCESS = ProcessGroup()


@contextlib.contextmanager
def init_process_group(device: str, timeout_minutes: float = 30.0) -> Iterator[ProcessGroup]:
    """Connect the processes that ``torchrun`` started; without it, there is a single one.

    Args:
        device: ``"cpu"`` (gloo), or ``"cuda"`` (nccl): process i of a node then takes its i-th GPU.
        timeout_minutes: how long one process waits for another before the run counts as broken.

    Raises:
        ConfigError: a device that several processes cannot share work on, or fewer GPUs than processes.
        DistributedError: inside the block, when another process is gone or the job is terminated.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1 or "RANK" not in os.environ:
        yield ProcessGroup(device=device)
        return
    rank, device = int(os.environ["RANK"]), _own_device(device)
    backend = "nccl" if device.startswith("cuda") else "gloo"
    with _lost_process_as_error():
        dist.init_process_group(backend, timeout=datetime.timedelta(minutes=timeout_minutes))
        try:
            yield ProcessGroup(rank, world_size, device)
        except BaseException:
            # Whatever this process does next, nobody is to wait for it. Not nccl, which would first wait itself.
            if backend == "gloo":
                dist.destroy_process_group()
            raise
        # Together, lest one closes connections that another still uses. Not after an error: it would wait for the
        # process that is gone.
        dist.barrier()
        dist.destroy_process_group()


def _own_device(device: str) -> str:
    kind = torch.device(device).type
    if kind not in ("cpu", "cuda"):
        raise ConfigError(f"device: got {device!r}, expected cpu or cuda for several processes")
    if kind == "cpu":
        return device
    local, available = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= available:
        raise ConfigError(f"device: process {local} of this node has no GPU of its own; expected at most {available}")
    torch.cuda.set_device(local)
    return f"cuda:{local}"


@contextlib.contextmanager
def _lost_process_as_error() -> Iterator[None]:
    """Say what happened when another process is gone; torchrun ends those that remain with SIGTERM."""
    process = os.getpid()

    def terminated(*_: object) -> None:
        if os.getpid() != process:  # a data worker that inherited this handler
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        raise _process_lost("SIGTERM")

    before = signal.signal(signal.SIGTERM, terminated)
    try:
        yield
    except RuntimeError as error:
        text = str(error).strip() or type(error).__name__
        if isinstance(error, AtmolossError) or not (
            isinstance(error, dist.DistError) or any(word in text for word in _LOST_WORDS)
        ):
            raise
        raise _process_lost(text.splitlines()[0]) from error
    signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # not after an error, see _process_lost


def _process_lost(reason: str) -> DistributedError:
    """Return the error, and give this process the time to tell it: torchrun kills it after 30 s, and not before.

    torchrun sends SIGTERM to it and to its data workers, at whose end torch would raise an error anywhere.
    """
    for name in ("SIGTERM", "SIGCHLD"):
        if hasattr(signal, name):  # Windows has no SIGCHLD; SIG_IGN would make Python complain of one on its way
            signal.signal(getattr(signal, name), lambda *_: None)
    return DistributedError(
        f"training: another process of the run is gone or the job was terminated ({reason}); continue from the "
        "last checkpoint with --resume, with any number of processes"
    )
