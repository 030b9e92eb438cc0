"""The report as one HTML file that needs nothing else: no script, no network, no font, no picture.

It can be mailed, printed, opened in ten years and read on a telephone. The template is `template.html`; everything
that goes through it is escaped by Jinja, and before that `visible` has made control characters harmless. A content
security policy in the page forbids the browser to load or run anything at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from corpusmith.disk import write_whole
from corpusmith.report import notation
from corpusmith.report.base import (
    BUILT,
    Choice,
    Comparison,
    Evaluation,
    Summary,
    comparison_of,
    finding,
    method,
    name_of,
)
from corpusmith.report.plots import Axis, make_axis, make_curve

KINDS = {
    "judged": "relevance judged by people",
    "known-item": "known-item queries from the corpus",
    "demonstration": "judgements from the documentation itself",
}
PARTS: dict[str, Any] = {
    "verdict": [],
    "corpus": None,
    "vocabulary": None,
    "evaluations": [],
    "choices": [],
    "training": [],
    "searches": [],
    "chain": [],
    "versions": {},
    "dropped_file": "",
}
"""What may be missing from a summary; the page then says so in a sentence."""


def write_report(summary: Summary, path: Path) -> None:
    """Write the report of a build as one self-contained HTML file.

    Raises:
        MachineError: the file cannot be written.
    """
    write_whole(path, render(summary))


def render(summary: Summary) -> str:
    """The report's HTML."""
    return _environment().from_string(_template()).render({**PARTS, **summary})


def _template() -> str:
    return resources.files("corpusmith.report").joinpath("template.html").read_text(encoding="utf-8")


def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(
        BUILT=BUILT,
        KINDS=KINDS,
        finding=finding,
        method=method,
        comparison_of=comparison_of,
        name_of=name_of,
        difference_axis=_difference_axis,
        score_axis=_score_axis,
        make_curve=make_curve,
        headline=_headline,
        total=_total,
        largest=_largest,
    )
    environment.filters.update(
        score=notation.score,
        difference=_typeset(notation.difference),
        probability=notation.probability,
        count=notation.count,
        quantity=notation.quantity,
        size=notation.size,
        scientific=notation.scientific,
        share=notation.share,
        rate=notation.rate,
        duration=notation.duration,
    )
    return environment


def _harmless(value: Any) -> Any:
    """What an expression of the template puts on the page: text without controls; finished markup as it is."""
    return notation.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _typeset(write: Any) -> Any:
    """The same notation with a real minus sign."""
    return lambda value: write(value).replace("-", "\N{MINUS SIGN}")


def _headline(evaluations: Iterable[Evaluation]) -> tuple[Evaluation, Comparison] | None:
    """The first evaluation that compares what was built with the best start, and that comparison."""
    for evaluation in evaluations:
        comparison = comparison_of(evaluation, BUILT)
        if comparison is not None:
            return evaluation, comparison
    return None


def _difference_axis(comparisons: Iterable[Comparison]) -> Axis:
    """An axis for all differences with their intervals, zero among them."""
    ends = [value for comparison in comparisons for value in (comparison["low"], comparison["high"])]
    return make_axis([0.0, *ends], most_ticks=4)


def _score_axis(choice: Choice) -> Axis:
    """An axis for the candidates' scores with their intervals."""
    ends = [value for candidate in choice["candidates"] for value in (candidate["low"], candidate["high"])]
    return make_axis(ends, most_ticks=4)


def _total(values: Iterable[float | None]) -> float:
    return sum(value or 0 for value in values)


def _largest(values: Iterable[float | None]) -> float:
    return max((value or 0 for value in values), default=0)
