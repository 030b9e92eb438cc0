"""Which embedding transfers there are: the one place that knows all of them.

A new transfer is listed here and its options in `config.TransferConfig`; nothing else has to change. Transfers are
named by module, and imported when one is built: checking a recipe needs neither torch nor scipy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from corpusmith.vocabulary.transfer.config import TransferConfig

if TYPE_CHECKING:
    from corpusmith.vocabulary.transfer.base import EmbeddingTransfer

TRANSFERS = {
    "random": ("corpusmith.vocabulary.transfer.random", "RandomVectors"),
    "mean": ("corpusmith.vocabulary.transfer.mean", "MeanVector"),
    "subword": ("corpusmith.vocabulary.transfer.subword", "SubwordMean"),
    "wechsel": ("corpusmith.vocabulary.transfer.wechsel", "Wechsel"),
    "focus": ("corpusmith.vocabulary.transfer.focus", "Focus"),
    "ofa": ("corpusmith.vocabulary.transfer.ofa", "Ofa"),
    "convex": ("corpusmith.vocabulary.transfer.convex", "Convex"),
    "distillation": ("corpusmith.vocabulary.transfer.distillation", "Distillation"),
}
"""Module and class of each kind of transfer."""


def build_transfer(config: TransferConfig) -> EmbeddingTransfer:
    """The transfer that `config` asks for."""
    module, name = TRANSFERS[config.kind]
    return getattr(import_module(module), name)(config)
