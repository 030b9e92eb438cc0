"""Pretrained distillation: a small masked language model names hidden tokens as a large one does.

Tokens of a passage are hidden (set M, at the masking rate), teacher and student read the same passage, and what the
student learns is not the token that stood there but everything that the teacher thinks likely there:

    L = t^2 / |M| sum_{i in M} KL( softmax(z_i / t) || softmax(s_i / t) )
        + a / |M| sum_{i in M} -log softmax(s_i)[x_i]  +  b / |M| sum_{i in M} (1 - cos(g_i, h_i))

with logits s and last states h of the student, z and g of the teacher, temperature t, and weights a (`named_weight`)
and b (`states_weight`), 0 unless given. The first term is the cross-entropy with the teacher's distributions as soft
targets less their entropy, on which nothing depends; it is 0 where both say the same.

| input           | shape   | what it is                               |
|-----------------|---------|------------------------------------------|
| `data.passages` | N texts | token shards                             |
| `data.rows`     | [n]     | those that may be trained on             |

Shapes: h `[T, D]` packed, g `[T, D']`, s and z `[|M|, V]`, of which a few rows are held at a time (`cross_entropy`).
The student's head is kept where the checkpoint had one; the teacher is not part of the objective's state.

Where we depart from the papers or they are silent:
- Turc et al. distil a task's classifier, on unlabelled texts, into a student that was pretrained as a masked language
  model before. Here the "task" is masked language modelling itself, as in DistilBERT, so that the teacher needs no
  labels: what is taken from Turc et al. is that a student begins pretrained (or is cut out of its teacher), and that
  soft targets at temperature 1 are its whole loss. DistilBERT's is t = 2, with a = 0.4 and b = 0.2 for its weights of
  5, 2 and 1.
- The cosine is taken at the hidden tokens, where DistilBERT takes it everywhere: so all terms are means over one set.
- The factor t^2, with which gradients do not shrink as t grows, is that of Hinton et al. (2015).

Example:
    >>> config = PretrainedDistillationConfig(teacher="models/large", temperature=2.0)
    >>> objective = build_objective(config, data, student, seed=0)
    >>> train(student.encoder, objective, TrainingConfig(), BudgetConfig(minutes=10), folder, seed=0)

Relations: masked language modelling is the second term alone. `self_attention_distillation` learns how the teacher
relates tokens, and needs no head.

Citation: Turc, Chang, Lee, Toutanova (2019), "Well-Read Students Learn Better: On the Importance of Pre-training
Compact Models", section 3; Sanh, Debut, Chaumond, Wolf (2019), "DistilBERT, a distilled version of BERT: smaller,
faster, cheaper and lighter", section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from corpusmith.errors import ModelError
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead
from corpusmith.objective.base import Batch, Loss
from corpusmith.objective.config import PretrainedDistillationConfig
from corpusmith.objective.cross_entropy import soft_cross_entropy
from corpusmith.objective.data import TrainingData
from corpusmith.objective.masked_language import MaskedInputs, MaskedLanguage, head_flops, named_tokens_loss
from corpusmith.objective.teacher import Teacher

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint


class PretrainedDistillation(MaskedLanguage):
    """Pretrained distillation; see the module's text.

    Raises:
        ModelError: the teacher cannot be compared with the student.
    """

    def __init__(
        self, config: PretrainedDistillationConfig, data: TrainingData, checkpoint: Checkpoint, seed: int
    ) -> None:
        super().__init__(config, data, checkpoint, seed)
        self.config = config
        self.teacher = Teacher(config.teacher, checkpoint)
        ours, theirs = checkpoint.encoder.config, self.teacher.encoder.config
        if self.teacher.head is None:
            raise ModelError(
                f"the teacher {self.teacher.name} has no masked-language head, so it names no tokens; train it with "
                "masked_language first, or learn from it by self_attention_distillation."
            )
        if ours.vocabulary_size != theirs.vocabulary_size:
            raise ModelError(
                f"the teacher {self.teacher.name} has {theirs.vocabulary_size} token embeddings and the model that is "
                f"trained {ours.vocabulary_size}; choose a teacher with the same number."
            )
        if config.states_weight > 0 and ours.hidden_size != theirs.hidden_size:
            raise ModelError(
                f"states_weight compares states of one width, and the teacher's have {theirs.hidden_size} dimensions, "
                f"the student's {ours.hidden_size}; set it to 0."
            )

    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """The soft targets' divergence and what is weighed in with it, means over the hidden tokens."""
        inputs: MaskedInputs = batch.inputs
        device = next(encoder.parameters()).device
        packed, places = inputs.packed.to(device), inputs.places.to(device)
        hidden = encoder(packed)
        if len(places) == 0:
            return Loss(hidden.sum() * 0, 0.0, {})
        with torch.no_grad():
            wanted = self.teacher.beside(encoder)(packed)[places]
        found = hidden[places]
        total = self.divergence(encoder, found, wanted)
        parts = {"divergence": float(total.detach())}
        if self.config.named_weight > 0:
            named = named_tokens_loss(encoder, self.head, hidden, inputs.places, inputs.targets)
            parts["named"] = float(named.detach())
            total = total + self.config.named_weight * named
        if self.config.states_weight > 0:
            angle = 1 - F.cosine_similarity(found.float(), wanted.float(), dim=1).mean()
            parts["states"] = float(angle.detach())
            total = total + self.config.states_weight * angle
        return Loss(total, float(len(places)), parts)

    def divergence(self, encoder: Encoder, found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Mean divergence of what the student says from `found[M, D]` from what the teacher says from `wanted`."""
        ours, theirs = encoder.embeddings.tokens.weight, self.teacher.encoder.embeddings.tokens.weight
        head = self._teachers_head
        return soft_cross_entropy(
            lambda rows: self.head(rows, ours),
            found,
            lambda rows: head(rows, theirs),
            wanted,
            [ours, *self.head.parameters()],
            encoder.config.vocabulary_size,
            self.config.temperature,
        )

    @property
    def _teachers_head(self) -> MaskedLanguageHead:
        assert self.teacher.head is not None
        return self.teacher.head

    def flops(self, encoder: Encoder, batch: Batch) -> float:
        """As of masked language modelling, the head's once for each of its two losses; and the teacher's, forward."""
        predictions, teacher = len(batch.inputs.targets), self.teacher.encoder
        again = head_flops(encoder, predictions) if self.config.named_weight > 0 else 0.0
        theirs = teacher.flops(batch.lengths.tolist()) + head_flops(teacher, predictions) / 3
        return super().flops(encoder, batch) + again + theirs
