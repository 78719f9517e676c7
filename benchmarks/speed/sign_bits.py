"""Does it pay to keep signs only? Frozen convolution and ReLU as one operation whose gradient needs no activations.

    python benchmarks/speed/sign_bits.py [--size 160] [--batch 32]      # results/sign_bits.md; three minutes

The gradient of a ReLU needs the sign of its output, and that of a convolution whose weight is frozen needs nothing but
the weight; autograd keeps the whole output. Here each pair is one `torch.autograd.Function` that keeps a byte, or a
bit, a value. "fused" also lets oneDNN add the bias and cut at zero inside its convolution. Memory is the peak of a
process of its own. Operations are the leaves that `torch.profiler` sees in one forward and backward, views left out:
on a GPU each is a kernel to launch. The last row has those of the encoder that `default` was until 2026-11-30.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import resource
import sys
from typing import Any

import torch
import torch.nn.functional as F
from timing import described, interleave, machine, report
from torch import Tensor
from torch.nn.grad import conv2d_input

from atmoloss import AtmoDistLoss, load_extractor
from atmoloss.extractor import Extractor
from atmoloss.layers import Block, FixedFilters
from atmoloss.networks import build_encoder
from atmoloss.normalization import LogNormalization

VARIANTS = ("as it is", "bytes", "bits", "bytes, fused")
_VIEWS = {
    "aten::view", "aten::reshape", "aten::as_strided", "aten::expand", "aten::slice", "aten::select", "aten::t",
    "aten::transpose", "aten::permute", "aten::unsqueeze", "aten::squeeze", "aten::alias", "aten::detach",
    "aten::empty",
    "aten::empty_strided", "aten::empty_like", "aten::_unsafe_view", "aten::unbind", "aten::narrow", "aten::unfold",
    "aten::view_as", "aten::resize_", "aten::_reshape_alias", "aten::result_type", "aten::to", "aten::is_nonzero",
    "aten::item", "aten::_local_scalar_dense", "aten::split", "aten::chunk",
}  # fmt: skip
_POWERS = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8)


class FrozenConvReLU(torch.autograd.Function):
    """relu(conv(x) + bias + residual) of stride 1, keeping the signs of the result alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, kind: str) -> Tensor:
        padding = weight.shape[-1] // 2
        if "fused" in kind and residual is None:
            pairs = [[padding] * 2, [1, 1], [1, 1]]
            y = torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *pairs, 1, "relu", [], "")
        else:
            y = F.conv2d(x, weight, bias, padding=padding)
            y = (y if residual is None else y.add_(residual)).relu_()
        positive = y > 0
        if "bits" in kind:
            flat = F.pad(positive.flatten(), (0, -positive.numel() % 8)).reshape(-1, 8)
            positive = (flat * _POWERS).sum(1, dtype=torch.uint8)
        ctx.save_for_backward(weight, positive)
        ctx.shapes = x.shape, y.shape, y.stride(), padding, residual is not None
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, positive = ctx.saved_tensors
        x_shape, shape, _, padding, has_residual = ctx.shapes
        if positive.dtype == torch.uint8:
            bits = positive[:, None].bitwise_and(_POWERS).ne(0)
            positive = bits.flatten()[: shape.numel()].reshape(shape)
        gradient = gradient * positive
        x = conv2d_input(x_shape, weight, gradient, padding=padding)  # type: ignore[no-untyped-call]
        return x, None, None, gradient if has_residual else None, None


def use(kind: str) -> None:
    """Let all encoders of this process compute in one of the VARIANTS."""
    if kind == "as it is":
        return

    def block(self: Block, x: Tensor) -> Tensor:
        assert isinstance(self.conv1, FixedFilters)
        y = FrozenConvReLU.apply(x, self.conv1.kernel, self.conv1.offset, None, kind)
        return FrozenConvReLU.apply(y, self.conv2.kernel, self.conv2.offset, self.shortcut(x), kind)

    Block.forward = block  # type: ignore[method-assign]


def former() -> Extractor:
    """Return the encoder that `default` was until 2026-11-30, with random weights."""
    now = load_extractor()
    encoder = build_encoder("resnet_aa", stage_channels=(32, 48, 64, 128), blocks_per_stage=(1, 2, 3, 3)).eval()
    info = dataclasses.replace(now.info, encoder=encoder.architecture)
    return Extractor(encoder, LogNormalization(**info.normalization), info)


def step_of(kind: str, batch: int, size: int, weights: str | Extractor = "default") -> Any:
    """Return a function that takes one forward and backward."""
    torch.manual_seed(1)
    loss = AtmoDistLoss(weights, normalization=None, validate=False, mse_weight=0.0)
    target = torch.randn(batch, 2, size, size)
    prediction = (target + 0.3 * torch.randn_like(target)).requires_grad_()
    plain = Block.forward

    def step() -> Tensor:
        use(kind)
        prediction.grad = None
        loss(prediction, target).backward()
        Block.forward = plain  # type: ignore[method-assign]
        assert prediction.grad is not None
        return prediction.grad

    return step


def peak_of(task: tuple[str, int, int]) -> float:
    """Return MB that one forward and backward adds to the peak of this process."""
    kind, batch, size = task
    torch.set_num_threads(1)
    step_of(kind, 1, 64)()
    step = step_of(kind, batch, size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def operations(step: Any) -> int:
    """Return how many operations one call dispatches, without views."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        step()
    events = [e for e in profile.events() if e.name.startswith(("aten::", "mkldnn::"))]
    return sum(e.name not in _VIEWS and not any(c.name.startswith("aten::") for c in e.cpu_children) for e in events)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        tasks = [(kind, arguments.batch, arguments.size) for kind in VARIANTS]
        peaks = pool.map(peak_of, tasks, chunksize=1)
    steps = [step_of(kind, arguments.batch, arguments.size) for kind in VARIANTS]
    expected = steps[0]()
    for step in steps[1:]:
        torch.testing.assert_close(step(), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    timings = interleave(steps, torch.device("cpu"), budget=60)
    about = described(machine(torch.device("cpu")))
    lines = [
        f"`python benchmarks/speed/sign_bits.py`: {arguments.batch} patches of {arguments.size}², float32, forward and "
        f"backward of `default`; {about}.",
        "",
        "| kept of each ReLU | ms | spread | × as it is | MB | operations |",
        "|---" * 6 + "|",
    ]
    for kind, timing, peak, step in zip(VARIANTS, timings, peaks, steps, strict=True):
        ratio = timings[0].median / timing.median
        lines.append(
            f"| {kind} | {1e3 * timing.median:.0f} | {1e3 * timing.spread:.0f} | {ratio:.2f} | {peak:.0f} | "
            f"{operations(step)} |"
        )
    before = operations(step_of("as it is", 1, 64, former()))
    lines.append(f"| as it is, encoder of 32-48-64-128 channels, 1-2-3-3 blocks | | | | | {before} |")
    report("sign_bits", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
