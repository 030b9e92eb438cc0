"""A trained model that another one learns from.

It is part of the recipe, like the texts: never changed, not kept with what is trained, and loaded again when a run goes
on. Its forward pass is counted wherever it is run.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, TypeVar

from torch import nn

from corpusmith.errors import ModelError
from corpusmith.model.encoder import Encoder
from corpusmith.model.huggingface import load_checkpoint

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint


class Teacher:
    """A frozen model.

    Args:
        name: a folder with a checkpoint or a name known here; None for `student` itself, as it is now.
        student: the model that is to learn.

    Attributes:
        name: for messages.
        encoder, head: the teacher's own, without gradients.

    Raises:
        ModelError: there is no such model, or it reads other tokens or shorter sequences than the student.
    """

    def __init__(self, name: str | None, student: Checkpoint) -> None:
        found = student if name is None else load_checkpoint(name)
        self.name = name or "the model at the start"
        self.encoder = _frozen(found.encoder)
        self.head = None if found.head is None else _frozen(found.head)
        if found.tokenizer.fingerprint != student.tokenizer.fingerprint:
            raise ModelError(
                f"the teacher {self.name} has another tokenizer than the model that is trained, so the two do not read "
                "the same tokens; choose a teacher with the same one."
            )
        if self.encoder.config.max_tokens < student.max_tokens:
            raise ModelError(
                f"the teacher {self.name} reads sequences of {self.encoder.config.max_tokens} tokens, and the model "
                f"that is trained {student.max_tokens}; set model.max_tokens to at most the teacher's."
            )

    def beside(self, encoder: Encoder) -> Encoder:
        """Its encoder, on the device and in the dtype in which this one computes."""
        device = next(encoder.parameters()).device
        self.encoder.to(device).compute_dtype = encoder.compute_dtype
        if self.head is not None:
            self.head.to(device)
        return self.encoder


Part = TypeVar("Part", bound=nn.Module)


def _frozen(part: Part) -> Part:
    return copy.deepcopy(part).requires_grad_(False).eval()
