"""Options of objectives that bring texts together and keep others apart."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from corpusmith.objective.options.base import Need, ObjectiveOptions


class InfoNCEConfig(ObjectiveOptions):
    """What all of them have in common."""

    temperature: float = Field(default=0.05, gt=0)
    """Cosines are divided by it before the softmax. Above 0; smaller looks harder at the nearest wrong passages."""

    recompute_above: int = Field(default=16384, ge=1)
    """Batches of more tokens are encoded in pieces of about this size whose activations are computed a second time
    in the backward pass: a quarter slower, and memory no longer grows with the batch. Tokens."""


class ContrastiveConfig(InfoNCEConfig):
    """Contrastive pairs: a query lies nearer to its own passage than to all others of the batch."""

    kind: Literal["contrastive"] = "contrastive"
    """Contrastive learning on pairs."""

    negatives: int = Field(default=1, ge=0)
    """Mined negatives drawn for each query, of those the pairs have. 0 or more; each costs one more passage."""

    symmetric: bool = False
    """Also ask each passage for its query among the batch's queries."""

    distillation: float = Field(default=0.0, ge=0)
    """Weight of the divergence from the teacher's ranking of a query's own candidates, where pairs carry a teacher's
    scores. 0 leaves the teacher out."""

    teacher_temperature: float = Field(default=1.0, gt=0)
    """The teacher's scores are divided by it before the softmax. Above 0; it depends on the scale of the scores."""

    def needs(self) -> frozenset[Need]:
        """Pairs."""
        return frozenset({"pairs"})


class QueueConfig(InfoNCEConfig):
    """What objectives with a queue of negatives have in common."""

    queue: int = Field(default=8192, ge=1)
    """Vectors of earlier batches that serve as negatives; as many numbers as this times the vectors' width are held.
    At least 1."""


class ContrieverConfig(QueueConfig):
    """Contriever: two random crops of a passage lie nearer to each other than to crops of other passages, those of
    earlier batches included."""

    kind: Literal["contriever"] = "contriever"
    """Independent cropping with momentum contrast."""

    shortest_crop: float = Field(default=0.1, gt=0, le=1)
    """Shortest crop, as a share of its passage. Above 0, at most 1."""

    longest_crop: float = Field(default=0.5, gt=0, le=1)
    """Longest crop, as a share of its passage. Above 0, at most 1."""

    deletion_rate: float = Field(default=0.1, ge=0, lt=1)
    """Chance of each token of a crop to be left out. 0 to below 1."""

    momentum: float = Field(default=0.995, ge=0, lt=1)
    """What the momentum encoder keeps of itself at each step, the rest coming from the encoder. 0 to below 1; the
    paper's 0.9995 is for hundreds of thousands of steps."""

    @model_validator(mode="after")
    def _crops_fit(self) -> Self:
        if self.shortest_crop > self.longest_crop:
            raise ValueError(f"shortest_crop = {self.shortest_crop} is above longest_crop = {self.longest_crop}")
        return self


class SentenceConfig(InfoNCEConfig):
    """What objectives with sentences as queries have in common."""

    shortest_query: int = Field(default=8, ge=1)
    """A sentence with fewer tokens is drawn together with the next. Tokens, at least 1."""

    longest_query: int = Field(default=64, ge=1)
    """A longer sentence is cut. Tokens, at least 1."""

    keep_rate: float = Field(default=0.1, ge=0, le=1)
    """Chance of the sentence to be left in place in the passage it was taken from, so that matching words count as
    well. 0 to 1."""

    @model_validator(mode="after")
    def _queries_fit(self) -> Self:
        if self.shortest_query > self.longest_query:
            raise ValueError(f"shortest_query = {self.shortest_query} is above longest_query = {self.longest_query}")
        return self


class ICTConfig(SentenceConfig):
    """Inverse cloze and its kin: a sentence finds the rest of its passage (ICT), another passage of its document
    (BFS), or a passage of a document that links to its own (WLP)."""

    kind: Literal["ict"] = "ict"
    """Inverse cloze task, body first selection, wiki link prediction."""

    ict_share: float = Field(default=1.0, ge=0)
    """Share of the examples that pair a sentence with the rest of its passage, relative to the other shares."""

    bfs_share: float = Field(default=0.0, ge=0)
    """Share of the examples that pair a sentence of a document's first passage with another of its passages, relative
    to the other shares. Above 0 only where documents have several passages."""

    wlp_share: float = Field(default=0.0, ge=0)
    """Share of the examples that pair a sentence of a document's first passage with a passage of a document that links
    to it, relative to the other shares. Above 0 only where documents link to each other."""

    @model_validator(mode="after")
    def _some_share(self) -> Self:
        if self.ict_share + self.bfs_share + self.wlp_share == 0:
            raise ValueError("ict_share, bfs_share and wlp_share are all 0")
        return self

    def needs(self) -> frozenset[Need]:
        """Links, where they are used."""
        return frozenset({"links"}) if self.wlp_share > 0 else frozenset()


class LaPraDoRConfig(SentenceConfig, QueueConfig):
    """LaPraDoR's iterative contrastive learning: queries and passages are trained in turns, against a queue that stays
    exact as long as a turn lasts."""

    kind: Literal["laprador"] = "laprador"
    """Iterative contrastive learning on inverse cloze pairs."""

    turn: int = Field(default=100, ge=1)
    """Steps after which the other side is trained and the queue begins anew. At least 1."""


class SimCSEConfig(InfoNCEConfig):
    """SimCSE: a passage read twice under different dropout lies nearer to itself than to other passages."""

    kind: Literal["simcse"] = "simcse"
    """Unsupervised SimCSE."""

    dropout: float = Field(default=0.1, gt=0, lt=1)
    """Share of the encoder's activations that are dropped in training: all that tells the two readings apart. Above 0,
    below 1."""


class SpiderConfig(InfoNCEConfig):
    """Spider: the text around a span finds another passage of the document in which the span recurs."""

    kind: Literal["spider"] = "spider"
    """Recurring span retrieval."""

    shortest_span: int = Field(default=2, ge=1)
    """Shortest recurring span. Words, at least 1."""

    longest_span: int = Field(default=10, ge=1, le=50)
    """Longest recurring span; what recurs at greater length is copied text and not used. Words, 1 to 50."""

    common_share: float = Field(default=0.1, gt=0, le=1)
    """A word in more than this share of the documents is common, as stop words are; a span neither begins nor ends
    with one. Above 0, at most 1; 1 lets every word pass."""

    spans_per_document: int = Field(default=16, ge=1)
    """Recurring spans drawn from a document at most. At least 1."""

    shortest_query: int = Field(default=5, ge=1)
    """Least text that a query takes from around the span, the span included, before words that are cut through are left
    out. Tokens, at least 1."""

    longest_query: int = Field(default=30, ge=1)
    """Most text that a query takes from around the span, the span included. Tokens, at least 1."""

    deletion_rate: float = Field(default=0.5, ge=0, le=1)
    """Share of the queries from which the span itself is removed. 0 to 1."""

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        for shortest, longest in (("shortest_span", "longest_span"), ("shortest_query", "longest_query")):
            if getattr(self, shortest) > getattr(self, longest):
                raise ValueError(
                    f"{shortest} = {getattr(self, shortest)} is above {longest} = {getattr(self, longest)}"
                )
        return self
