"""What is claimed for each objective, and against what: the table that the harness measures and the page shows.

A claim sets an objective against its paper's own baseline, both trained from the same start at the same FLOPs.
`decides` is the setting that the paper speaks of, and by which the verdict is given; the other is measured as well.

The verdict follows a rule and nobody's hopes: the 95% interval of the paired difference, each query's scores averaged
over seeds and each collection with the same weight, lies above 0 (confirmed here), holds 0 (not distinguishable here),
or lies below 0 (contradicted here). "Here" is part of it: small models, small budgets, these collections.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from benchmarks.record import read_parts
from pydantic import TypeAdapter, ValidationError

from corpusmith.index.search import SearchSettings
from corpusmith.objective.registry import OBJECTIVES, ObjectiveConfig
from corpusmith.retrieval.pairs import PairsConfig

OPTIONS: TypeAdapter[ObjectiveConfig] = TypeAdapter(ObjectiveConfig)
RESULTS = Path(__file__).resolve().parent.parent / "results" / "claims"

Fragment = dict[str, Any]
"""An objective's part of a recipe."""
Setting = Literal["zero-shot", "fine-tuned"]
Measure = Literal["vectors", "lexicon", "sizes", "reranking"]
"""Search by the model's vectors, alone and fused; by the product of BM25 score and cosine, against the better of the
two; by models cut out of it; or with it as a cross-encoder over BM25."""
Verdict = Literal["confirmed here", "not distinguishable here", "contradicted here"]


SIZES = ((1.0, 1.0), (1.0, 0.25), (1.0, 0.0625), (0.5, 1.0), (0.5, 0.25))
"""Models inside the model that are measured: shares of its layers and of its dimensions."""
LISTED_SIZES = ((1.0, 1.0), (5 / 6, 2 / 3), (4 / 6, 1 / 3), (3 / 6, 1 / 6), (2 / 6, 1 / 12), (1 / 6, 1 / 24))
"""The list that Starbucks trains by default in a model of six layers and 384 dimensions."""


@dataclass(frozen=True)
class Claim:
    """What a paper says of `objective` against `baseline` (None: the start as it is)."""

    name: str
    statement: str
    objective: Fragment
    baseline: Fragment | None
    decides: Setting = "fine-tuned"
    measure: Measure = "vectors"
    paper: str = ""
    """Unless it is the one that the objective's own file cites."""
    pairs: Fragment = field(default_factory=dict)
    """Options of the pairs that `objective` trains on; the baseline has the usual ones."""
    sizes: tuple[tuple[float, float], ...] = SIZES
    """What the measure "sizes" measures."""

    @property
    def kind(self) -> str:
        """The objective's kind."""
        return self.objective["kind"]

    @property
    def module(self) -> str:
        """The module that holds the objective."""
        return OBJECTIVES[self.kind][0]

    @property
    def needs_pairs(self) -> bool:
        """Whether the objective itself trains on pairs, so that on labels it is the fine-tuning."""
        return "pairs" in OPTIONS.validate_python(self.objective).needs()

    def hindrance(self) -> str:
        """What this claim needs and is not there; empty where nothing is missing."""
        fragments = [self.objective, *([self.baseline] if self.baseline else [])]
        fragments += [{"kind": "reranking"}] if self.measure == "reranking" else []
        fusions = str(SearchSettings.model_fields["fusion"].annotation)
        if self.measure == "lexicon" and "product" not in fusions:
            return "no fusion by product"
        missing = sorted({kind for part in fragments for kind in _kinds(part) if kind not in OBJECTIVES})
        if missing:
            return f"no objective {' and '.join(missing)}"
        try:
            for fragment in fragments:
                OPTIONS.validate_python(fragment)
            PairsConfig.model_validate(self.pairs)
        except ValidationError as error:
            problem = error.errors()[0]
            return f"no option {'.'.join(map(str, problem['loc']))} ({problem['msg'].lower()})"
        return ""


MLM: Fragment = {"kind": "masked_language"}
RETROMAE: Fragment = {"kind": "retromae"}
ICT: Fragment = {"kind": "ict"}
PAIRS: Fragment = {"kind": "contrastive"}

CLAIMS = (
    Claim(
        "masked_language",
        "Going on with masked language modelling on the corpus makes better vectors than leaving the model alone.",
        MLM,
        None,
        decides="zero-shot",
        paper='Gururangan et al. (2020), "Don\'t Stop Pretraining: Adapt Language Models to Domains and Tasks"',
    ),
    Claim(
        "whole_words",
        "Hiding whole words is better than hiding word pieces.",
        MLM | {"whole_words": True},
        MLM | {"whole_words": False},
        paper='Cui et al. (2021), "Pre-Training with Whole Word Masking for Chinese BERT"',
    ),
    Claim(
        "rom",
        "Hiding the words that matter for retrieval more often is better than hiding all alike.",
        MLM | {"choose": "importance"},
        MLM,
        paper='Long et al. (2022), "Retrieval Oriented Masking Pre-training Language Model for Dense Passage '
        'Retrieval"',
    ),
    Claim(
        "curriculum",
        "A masking rate and strategy that change over training are better than constant ones.",
        MLM | {"masking_rate": 0.15, "final_rate": 0.3, "strategy_from": 0.5, "whole_words": True},
        MLM,
        paper='Pavlova and Makhlouf (2023), "BIOptimus: Pre-training an Optimal Biomedical Language Model with '
        'Curriculum Learning for Named Entity Recognition"',
    ),
    Claim("retromae", "A weak decoder behind the vector is better than masked language modelling.", RETROMAE, MLM),
    Claim(
        "pmi",
        "Hiding from the decoder what tells most about its neighbours is better than hiding all alike.",
        RETROMAE | {"visible": "pmi"},
        RETROMAE,
        paper='Li et al. (2023), "Challenging Decoder helps in Masked Auto-Encoder Pre-training for Dense Passage '
        'Retrieval"',
    ),
    Claim("dupmae", "Naming words from the tokens' states as well adds to RetroMAE.", {"kind": "dupmae"}, RETROMAE),
    Claim(
        "bag_of_words",
        "Naming the passage's words from its vector, without a decoder, is better than a decoder at the same compute.",
        {"kind": "bag_of_words"},
        RETROMAE,
    ),
    Claim(
        "condenser",
        "A head that joins late vector and early states is better than masked language modelling.",
        {"kind": "condenser"},
        MLM,
    ),
    Claim(
        "cocondenser",
        "Contrast between spans of the corpus's documents adds to Condenser.",
        {"kind": "cocondenser"},
        {"kind": "condenser"},
    ),
    Claim(
        "simlm",
        "Restoring replaced tokens through a bottleneck is better than masked language modelling.",
        {"kind": "simlm"},
        MLM,
    ),
    Claim(
        "seed_encoder",
        "A decoder of short memory behind the vector is better than masked language modelling.",
        {"kind": "seed_encoder"},
        MLM,
    ),
    Claim(
        "cot_mae",
        "Rebuilding the neighbouring span is better than rebuilding the same one.",
        {"kind": "cot_mae"},
        RETROMAE,
    ),
    Claim(
        "tsdae",
        "Telling a passage from the vector of its remains is better than masked language modelling.",
        {"kind": "tsdae"},
        MLM,
        decides="zero-shot",
    ),
    Claim(
        "electra",
        "Telling replaced from original tokens is better than masked language modelling.",
        {"kind": "electra"},
        MLM,
    ),
    Claim(
        "ict",
        "Finding a sentence's passage is better than masked language modelling.",
        ICT,
        MLM,
        decides="zero-shot",
    ),
    Claim(
        "ict_mix",
        "Sentences of a first passage that find other passages of the document add to inverse cloze.",
        ICT | {"ict_share": 1.0, "bfs_share": 1.0},
        ICT,
        decides="zero-shot",
    ),
    Claim(
        "contriever",
        "Two crops of a passage with a queue of negatives are better than inverse cloze.",
        {"kind": "contriever"},
        ICT,
        decides="zero-shot",
    ),
    Claim(
        "spider",
        "The text around a recurring span makes better queries than sentences of the passage.",
        {"kind": "spider"},
        ICT,
        decides="zero-shot",
    ),
    Claim(
        "simcse",
        "Two readings under dropout make better vectors than the start's.",
        {"kind": "simcse"},
        None,
        decides="zero-shot",
    ),
    Claim(
        "laprador",
        "Queries and passages trained in turns against many exact negatives are better than in-batch negatives.",
        {"kind": "laprador"},
        ICT,
        decides="zero-shot",
    ),
    Claim(
        "lexicon",
        "The product of BM25 score and cosine finds more than the better of BM25 and the vectors alone.",
        {"kind": "laprador"},
        {"kind": "laprador"},
        decides="zero-shot",
        measure="lexicon",
    ),
    Claim(
        "contrastive",
        "Pairs made from the corpus itself make better vectors than the start's.",
        PAIRS,
        None,
        decides="zero-shot",
    ),
    Claim(
        "sum",
        "Masked language modelling beside contrastive pairs is better than the pairs alone.",
        {"kind": "sum"},
        PAIRS,
        decides="zero-shot",
    ),
    Claim(
        "word_sets",
        "Sets of words that represent a passage are better queries for it than its title, headings and sentences.",
        PAIRS,
        PAIRS,
        decides="zero-shot",
        paper='Ma et al. (2021), "PROP: Pre-training with Representative Words Prediction for Ad-hoc Retrieval"; that '
        "its sets of words serve as queries of a dense model is our reading",
        pairs={"kinds": ["words"]},
    ),
    Claim(
        "prop",
        "Telling the likelier of two sets of words is a better start for a reranker than masked language modelling.",
        {"kind": "prop"},
        MLM,
        measure="reranking",
    ),
    Claim(
        "matryoshka",
        "Vectors trained at several widths lose less when they are cut.",
        {"kind": "matryoshka", "objective": PAIRS},
        PAIRS,
        decides="zero-shot",
        measure="sizes",
    ),
    Claim(
        "matryoshka_2d",
        "Models trained at several depths and widths lose less when they are cut.",
        {"kind": "matryoshka_2d", "objective": PAIRS},
        PAIRS,
        decides="zero-shot",
        measure="sizes",
    ),
    Claim(
        "starbucks",
        "A fixed list of sizes is better at each of them than sizes drawn at random.",
        {"kind": "starbucks", "objective": PAIRS},
        {"kind": "matryoshka_2d", "objective": PAIRS},
        decides="zero-shot",
        measure="sizes",
        sizes=LISTED_SIZES,
    ),
    Claim(
        "substructures",
        "Training parts of the model from below first, and then the whole, is better than training the whole.",
        {"kind": "substructures", "objective": MLM},
        MLM,
        decides="zero-shot",
    ),
)
"""In the order in which the page shows them."""


def verdict(low: float, high: float) -> Verdict:
    """What the interval of a difference says of a claim that it is above 0."""
    return "confirmed here" if low > 0 else "contradicted here" if high < 0 else "not distinguishable here"


def source_of(module: str) -> str:
    """The file of a module, from the root of the repository."""
    return f"src/{module.replace('.', '/')}.py"


def citation_of(module: str) -> str:
    """What a module's file says under "Citation", in one line; empty where it says nothing."""
    found = find_spec(module)
    assert found is not None
    assert found.origin is not None
    text = ast.get_docstring(ast.parse(Path(found.origin).read_text(encoding="utf-8"))) or ""
    paragraph = text.partition("Citation:")[2].strip().split("\n\n")[0]
    return " ".join(paragraph.split())


def results_of(name: str, folder: Path | None = None) -> dict[str, dict[str, Any]]:
    """What was measured for a claim, by form ("quick", "full"); empty where nothing was."""
    return read_parts((folder or RESULTS) / f"{name}.json")


def _kinds(fragment: Fragment) -> list[str]:
    """The kinds in an objective's options, those inside it included."""
    inner = [part for value in fragment.values() for part in (value if isinstance(value, list) else [value])]
    found = [kind for part in inner if isinstance(part, dict) for kind in _kinds(part)]
    return [fragment["kind"], *found] if "kind" in fragment else found
