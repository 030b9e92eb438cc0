"""Linear maps in 8-bit integers, for encoding only.

Weights are rounded once, each output channel to its own scale; inputs as they come, each token to its own scale, so
that a text's vector still does not depend on what it shares a batch with. oneDNN multiplies the integers and adds
them up exactly: all that is lost is lost by rounding what goes in.

Inputs are unsigned, 128 standing for zero, because signed by signed goes to oneDNN's reference code, a thousand times
slower on processors without AMX. PyTorch's own quantised tensors and modules scale a whole batch alike, and are
deprecated since 2.13; the operators used here take plain tensors and are those that `torch.compile` lowers to.
"""

from __future__ import annotations

import torch
from torch import nn

from corpusmith import environment
from corpusmith.model.linear import Linear

LARGEST, ZERO = 127, 128
"""Weights and inputs become whole numbers from -127 to 127; of inputs, 128 more than that."""
SMALLEST = 1e-12
"""Stands for the largest value of a row that is all zeros."""


def is_available(device: torch.device) -> bool:
    """Whether quantised maps run on this device, and at a speed that is worth it."""
    has_operator = torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qlinear_pointwise")
    return device.type == "cpu" and has_operator and environment.has_native_int8()


def quantise(module: nn.Module) -> None:
    """Replace every linear map inside a module."""
    for part in list(module.modules()):
        for name, child in part.named_children():
            if isinstance(child, Linear):
                setattr(part, name, QuantisedLinear(child))


class QuantisedLinear(nn.Module):
    """A linear map with int8 weights and, while it runs, int8 inputs.

    Args:
        linear: the map that it stands for, on the CPU; nothing is shared with it.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        self.scales = weight.abs().amax(1).clamp_(min=SMALLEST) / LARGEST
        self.zeros = torch.zeros(len(weight), dtype=torch.int64)
        self.packed = torch.ops.onednn.qlinear_prepack((weight / self.scales[:, None]).round_().to(torch.int8), None)
        self.bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach().float().clone()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`[N, in]` to `[N, out]`, in the dtype of the input."""
        exact, dtype = input.float(), input.dtype
        scale = (exact.abs().amax(1, keepdim=True).clamp_(min=SMALLEST) / LARGEST).to(dtype)
        whole = (exact * scale.float().reciprocal()).add_(ZERO + 0.5).to(torch.uint8)
        product = torch.ops.onednn.qlinear_pointwise(
            whole, 1.0, ZERO, self.packed, self.scales, self.zeros, None, 1.0, 0, dtype, "none", [], ""
        )
        return torch.addcmul(self.bias.to(dtype), product, scale, out=product)
