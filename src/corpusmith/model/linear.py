"""Linear maps in the dtype of their input, by the fastest product the processor has.

On a CPU they go to oneDNN directly. In float32 PyTorch would call MKL, which runs at half of oneDNN's rate on AMD
processors, in the forward and in both backward products. In bf16 it calls oneDNN itself, but writes the bias into the
output first and adds the product to it: handing the bias over saves a seventh of the time. Results differ only in the
order of summation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

ONEDNN_DTYPES = (torch.float32, torch.bfloat16)
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Linear(nn.Linear):
    """A linear map whose weights, kept in float32, are cast to the dtype of its input.

    On the device "meta" nothing is drawn: drawing numbers that are none makes PyTorch import its compiler, which takes
    a second and 80 MB.
    """

    def reset_parameters(self) -> None:
        """Draw weights, where there are any."""
        if not self.weight.is_meta:
            super().reset_parameters()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`[N, in]` to `[N, out]`."""
        return linear(input, self.weight, self.bias)


class Embedding(nn.Embedding):
    """A table of vectors; like `Linear` without numbers on the device "meta"."""

    def reset_parameters(self) -> None:
        """Draw vectors, where there are any."""
        if not self.weight.is_meta:
            super().reset_parameters()


class InferenceLinear(nn.Module):
    """A linear map for encoding alone: its weights are kept in one dtype, on a CPU in the order in which oneDNN reads
    them. A training step could not gain by it, since its weights change; here each product saves the reordering (4% at
    the sizes of small encoders)."""

    def __init__(self, source: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        weight = source.weight.detach().to(dtype)
        self.is_ordered = HAS_ONEDNN and weight.device.type == "cpu" and dtype in ONEDNN_DTYPES
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, None) if self.is_ordered else weight
        self.bias = None if source.bias is None else source.bias.detach().to(dtype)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`[N, in]` to `[N, out]`, both in the weights' dtype."""
        if self.is_ordered:
            return _product(input, self.weight, self.bias)
        return F.linear(input, self.weight, self.bias)


def linear(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """`input weight^T + bias`, `[N, in]` to `[N, out]`, in the dtype of the input; differentiable in all three."""
    weight = weight.to(input.dtype)
    bias = None if bias is None else bias.to(input.dtype)
    if HAS_ONEDNN and input.dtype in ONEDNN_DTYPES and input.device.type == "cpu" and input.numel():
        return _OneDNNLinear.apply(input, weight, bias)
    return F.linear(input, weight, bias)


class _OneDNNLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(input, weight)
        return _product(input, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        input, weight = ctx.saved_tensors
        product = _product if gradient.dtype == torch.float32 else F.linear  # equally fast in bf16, or faster
        d_input = product(gradient, weight.t()) if ctx.needs_input_grad[0] else None
        d_weight = product(gradient.t(), input.t()) if ctx.needs_input_grad[1] else None
        d_bias = gradient.sum(0) if ctx.needs_input_grad[2] else None
        return d_input, d_weight, d_bias


def _product(left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`left right^T + bias`."""
    return torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
