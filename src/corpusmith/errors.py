"""Errors a user can cause or mend: each message is one sentence that names the cause and the remedy.

The command line prints the message alone and exits with code 2; anything that is not a `CorpusmithError` is a
defect of corpusmith and shows its traceback.
"""

from __future__ import annotations


class CorpusmithError(Exception):
    """Base of every error whose cause lies outside the code: input, recipe, model, artefact or machine."""


class CorpusError(CorpusmithError):
    """The documents cannot be read or hold nothing to work with."""


class RecipeError(CorpusmithError):
    """The recipe names an unknown key or a value out of range."""


class ModelError(CorpusmithError):
    """A checkpoint is missing, damaged, of an unknown architecture, or does not fit its tokenizer."""


class ArtefactError(CorpusmithError):
    """An artefact is missing, incomplete, damaged or written by a newer version."""


class EarlierArtefactError(ArtefactError):
    """An artefact was written by an earlier version, in a format that is not read any more."""


class NewerArtefactError(ArtefactError):
    """An artefact was written by a newer version: it is not damaged, and must not be replaced."""


class EvaluationError(CorpusmithError):
    """Queries or relevance judgements cannot be read or do not fit the corpus."""


class MachineError(CorpusmithError):
    """The machine cannot hold the work: no space, no permission, no memory."""
