"""Runs a recipe's steps from documents to a report, skips what is already built, resumes what was cut off."""

from corpusmith.pipeline.comparison import ComparisonResult, compare
from corpusmith.pipeline.merging import MergeResult, merge
from corpusmith.pipeline.run import BuildResult, build, resolve_recipe

__all__ = ["BuildResult", "ComparisonResult", "MergeResult", "build", "compare", "merge", "resolve_recipe"]
