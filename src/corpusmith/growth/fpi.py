"""Function-preserving widening: a wider model that computes what the source computed.

Every dimension of the hidden states, every head and every neuron becomes one or several copies of an old one, and the
weights that read the copies share what one had (`growth/copies.py` has the formula):

    U[j, k] = W[g_out(j), g_in(k)] / c_in(g_in(k))

for embeddings, positions, norms, biases, all linear maps and the masked-language head. The head's logits are inner
products with the token embedding, in which dimension i now appears c(i) times; its norm's weight and bias are divided
by that, and logits stay what they were.

Layer norm divides by the spread over all dimensions. That spread stays the same where each dimension has equally many
copies, so:

| what grows                                | what comes out                                                   |
|-------------------------------------------|------------------------------------------------------------------|
| intermediate size, heads, size of a head  | the function exactly                                             |
| hidden size, to a whole multiple          | the function exactly: states repeated, logits equal              |
| hidden size, to anything else             | about the function: norms weigh dimensions by their copies       |

Shapes: `[D_out, D_in]` to `[D'_out, D'_in]` a weight; nothing is multiplied but by scalars.

Where we depart from the paper or it is silent:
- It draws all added copies at random. Whole copies come first here, since only equal counts preserve the function.
- Copies learn alike. In the paper dropout tells them apart, and we train without: `noise` does, and keeps the function.
- It widens heads by whole heads of one size. Heads may grow here as well, with the scores' divisor made good.
- Rotary positions (ModernBERT) fix where a dimension stands in its head; heads grow by whole multiples there.
- Depth stays as it is: deepening is another operator's work, before or after.

Relations: `aki` takes the added rows from the layer above; `ligo` and `mango` start from this one and learn.

Example:
    >>> wider = replace(small.encoder.config, hidden_size=768, heads=24, intermediate_size=3072)
    >>> given = GrowthInput(small, wider, torch.Generator().manual_seed(0))
    >>> grown = grown_checkpoint(build_operator(FPIConfig()), given)

Citation: Chen, Yin, Shang, Jiang, Qin, Wang, Wang, Chen, Liu, Liu (2022), "bert2BERT: Towards Reusable Pretrained
Language Models", ACL, section 3.2; Chen, Goodfellow, Shlens (2016), "Net2Net: Accelerating Learning via Knowledge
Transfer", ICLR, section 2.2.
"""

from __future__ import annotations

from corpusmith.growth.axes import axes_of
from corpusmith.growth.base import GrowthInput, GrowthOperator
from corpusmith.growth.config import FPIConfig
from corpusmith.growth.copies import copies, widen
from corpusmith.growth.shapes import check_larger
from corpusmith.growth.weights import model_of, weights_of
from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead


class FunctionPreserving(GrowthOperator):
    """Function-preserving widening; see the module's text."""

    keeps_depth = True

    def __init__(self, config: FPIConfig) -> None:
        self.config = config

    def preserves_function(self, source: EncoderConfig, target: EncoderConfig) -> bool:
        """Where every dimension of the hidden states has equally many copies."""
        return target.hidden_size % source.hidden_size == 0

    def check(self, source: EncoderConfig, target: EncoderConfig) -> None:
        """Wider, and as deep."""
        check_larger("fpi", source, target, deeper=False)

    def grow(self, given: GrowthInput) -> tuple[Encoder, MaskedLanguageHead | None]:
        """Copies of all weights."""
        source = given.source.encoder.config
        maps = copies(source, given.target, given.generator)
        weights = {
            name: widen(weight, axes_of(name, source), maps, self.config.noise, given.generator)
            for name, weight in weights_of(given.source.encoder, given.source.head).items()
        }
        return model_of(given.target, weights)
