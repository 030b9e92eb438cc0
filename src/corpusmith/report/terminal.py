"""Tables for the terminal, laid out for 80 columns and plain where there is no terminal.

Cells are `rich.text.Text`: a title with "[bold]" in it is shown with its brackets, never obeyed. Intervals stand
under their means rather than beside them, so that three measures and a comparison fit the narrow screen that a
remote shell often is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from corpusmith.report import notation
from corpusmith.report.base import (
    BUILT,
    Comparison,
    ComparisonSummary,
    Estimate,
    Evaluation,
    Link,
    PlannedStep,
    baseline_name,
    comparison_of,
    finding,
    method,
)

if TYPE_CHECKING:
    from corpusmith.search import SearchResult
    from corpusmith.vocabulary.fertility import FertilityReport, ImprovedWord

FINDING_STYLES = {"better": "green", "worse": "red", "not distinguishable": ""}
SHORT_DIGEST = 8
SNIPPET_CHARACTERS = 240


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """One table: every system's measures with intervals, and its difference from the best starting point."""
    console.print()
    _print(console, evaluation["name"], "bold")
    table = _table("system")
    measures = list(evaluation["systems"][0]["measures"]) if evaluation["systems"] else []
    for measure in measures:
        _add_numbers(table, measure)
    if evaluation["comparisons"]:
        deciding = notation.visible(evaluation["comparisons"][0]["measure"])
        table.add_column(
            Text(f"{deciding} against\n{baseline_name(evaluation)}"), min_width=max(map(len, FINDING_STYLES))
        )
    for system in evaluation["systems"]:
        cells = [Text(notation.visible(system["name"]), style="bold" if system["key"] == BUILT else "")]
        cells += [_estimate(system["measures"][measure]) for measure in measures]
        comparison = comparison_of(evaluation, system["key"])
        if comparison is not None:
            cells.append(_comparison(comparison))
        elif system["key"] == evaluation["baseline"]:
            cells.append(Text(baseline_name(evaluation)))
        table.add_row(*cells)
    console.print(table)
    _print(console, method(evaluation), "dim")
    _print(console, evaluation["note"], "dim")


def print_comparison(summary: ComparisonSummary, console: Console) -> None:
    """Recipes compared: a table for each way of searching, then what training cost and how far seeds lie apart."""
    for evaluation in summary["evaluations"]:
        print_evaluation(evaluation, console)
    console.print()
    _print(console, f"training, {summary['budget']} each", "bold")
    table = _table("recipe")
    for header in ("steps", "work", "time", f"{summary['measure']} by seed"):
        _add_numbers(table, header)
    for recipe in summary["recipes"]:
        table.add_row(
            Text(notation.visible(recipe["name"])),
            notation.count(recipe["steps"]),
            _work(recipe["tokens"], recipe["flops"]),
            notation.duration(recipe["seconds"]),
            Text("\n".join(f"{mode} {notation.seeds(scores)}" for mode, scores in recipe["by_seed"].items())),
        )
    console.print(table)
    for note in summary["notes"]:
        _print(console, f"- {note}")


def print_plan(plan: Sequence[PlannedStep], console: Console) -> None:
    """What a build will do: a row a step, then the totals of what is not reused."""
    table = _table("step", footer="in all")
    ahead = [step for step in plan if not step["reused"]]
    seconds = sum(step["seconds"] or 0 for step in ahead)
    open_ended = any(step["seconds"] is None for step in ahead)
    memory = max((step["memory_bytes"] for step in ahead), default=0)
    disk = sum(step["disk_bytes"] for step in ahead)
    reused = len(plan) - len(ahead)
    table.add_column("", Text(f"{reused} of {len(plan)} steps reused" if reused else ""), ratio=1)
    _add_numbers(table, "time", Text(notation.duration(seconds) + ("+" if open_ended else "")))
    _add_numbers(table, "memory", Text(notation.size(memory)))
    _add_numbers(table, "disk", Text(notation.size(disk)))
    for step in plan:
        name, note = Text(notation.visible(step["step"])), Text(notation.visible(step["note"]))
        if step["reused"]:
            table.add_row(name, note, Text("reused"), "", "", style="dim")
        else:
            time = "by budget" if step["seconds"] is None else notation.duration(step["seconds"])
            table.add_row(name, note, time, notation.size(step["memory_bytes"]), notation.size(step["disk_bytes"]))
    console.print()
    console.print(table)
    _print(console, "Estimates; memory is the most that any step needs at one time.", "dim")


def print_chain(chain: Sequence[Link], console: Console) -> None:
    """What made what, at what cost: a row an artefact, parents before children, then the totals."""
    table = _table("artefact", footer="in all")
    table.add_column("made from", ratio=1)
    _add_numbers(
        table, "work", _work(_total(link["tokens"] for link in chain), _total(link["flops"] for link in chain))
    )
    _add_numbers(table, "time", Text(notation.duration(_total(link["seconds"] for link in chain))))
    _add_numbers(table, "disk", Text(notation.size(_total(link["bytes"] for link in chain))))
    names = {link["name"] for link in chain}
    for link in chain:
        made_from = ", ".join(
            parent if parent in names else f"{parent} ({digest[:SHORT_DIGEST]})"
            for parent, digest in link["parents"].items()
        )
        table.add_row(
            Text.assemble(
                notation.visible(link["name"]), "\n", (notation.visible(link["digest"][:SHORT_DIGEST]), "dim")
            ),
            Text(notation.visible(made_from)),
            _work(link["tokens"], link["flops"]),
            notation.duration(link["seconds"]),
            notation.size(link["bytes"]),
        )
    console.print(table)
    peak = max((link["peak_memory_bytes"] for link in chain), default=0)
    _print(console, f"The largest process took {notation.size(peak)} of memory.", "dim")


def print_fertility(report: FertilityReport, console: Console) -> None:
    """How vocabularies cut a corpus's words: a row a vocabulary, then the words that tell them apart. Lists of the same
    words are printed once."""
    table = _table("vocabulary")
    headers = (
        "entries",
        "tokens\na word",
        "words\nwhole",
        "words\nun-\nknown",
        "chars\na\ntoken",
        "tokens\nin all",
        "one pass",
    )
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
    for fertility, saved in [(report.base, None), *((gain.fertility, gain.saved) for gain in report.gains)]:
        tokens = Text(notation.quantity(fertility.corpus_tokens))
        if saved is not None:
            tokens.append(f"\n{notation.change(-saved)}", "dim")
        table.add_row(
            Text(notation.visible(fertility.name)),
            notation.count(fertility.entries),
            notation.rate(fertility.tokens_per_word),
            notation.share(fertility.kept_whole),
            notation.share(fertility.unknown),
            notation.rate(fertility.characters_per_token),
            tokens,
            notation.duration(fertility.seconds),
        )
    console.print()
    console.print(table)
    improved: dict[tuple[ImprovedWord, ...], list[str]] = {}
    for gain in report.gains:
        improved.setdefault(gain.improved, []).append(gain.fertility.name)
    if {entry.word for entry in report.base.worst} not in [{entry.word for entry in words} for words in improved]:
        costliest = [(entry.word, entry.count, entry.pieces) for entry in report.base.worst]
        _print_splits("the costliest words", costliest, console)
    for words, names in improved.items():
        splits = [(entry.word, entry.count, entry.before, entry.after) for entry in words]
        _print_splits(f"{' and '.join(names)}: the most improved words", splits, console)
    measured = f"Measured on {report.words:,} words, {report.characters:,}"
    if report.characters < report.total_characters:
        rest = f"of {report.total_characters:,} characters; the corpus's tokens are estimated from them."
    else:
        rest = "characters: the whole corpus."
    _print(console, f"{measured} {rest}", "dim")
    _print(
        console, "One pass takes each token through the base once; training on it takes 3 to 4 times as long.", "dim"
    )
    _print(console, _of_passages(report))
    if report.distance is not None:
        _print(
            console,
            f"Distance from general text: {notation.rate(report.distance)} (Jensen-Shannon divergence from what the "
            "base's vocabulary was learned from: 0 the same, 1 nothing in common).",
        )


def print_results(results: Sequence[SearchResult], query: str, console: Console) -> None:
    """Documents found, best first: rank, title, id and score, and below the part that speaks for it."""
    if not results:
        _print(console, "Nothing found.")
    words = set(query.lower().split())
    for result in results:
        line = Text.assemble(
            f"{result.rank:>3}. ",
            (notation.visible(result.title or result.document_id), "bold"),
            (f"  {notation.visible(result.document_id)}  {result.score:.3f}", "dim"),
        )
        console.print(line, soft_wrap=not console.is_terminal)
        snippet = Text(notation.visible(notation.excerpt(result.text, words, SNIPPET_CHARACTERS)))
        console.print(
            Padding(snippet, (0, 0, 0, 5)) if console.is_terminal else Text("     ") + snippet,
            soft_wrap=not console.is_terminal,
        )


def _of_passages(report: FertilityReport) -> str:
    """What of a passage the model does not read."""
    if report.passages is None or report.base.beyond is None:
        return ""
    out_of_reach = any((fertility.beyond or 0) > 0 for fertility in (report.base, *(g.fertility for g in report.gains)))
    others = "; ".join(
        f"{gain.fertility.name}: {notation.share(gain.fertility.beyond)}" for gain in report.gains if out_of_reach
    )
    return (
        f"Of a passage of {report.passages.words} words, {notation.share(report.base.beyond)} lie beyond the "
        f"{report.passages.tokens} tokens that the model reads{f' ({others})' if others else ''}."
    )


def _print_splits(title: str, splits: Sequence[tuple[Any, ...]], console: Console) -> None:
    """Words with their counts and with their pieces, before and after where there are both."""
    if not splits:
        return
    _print(console, title, "bold")
    table = _table("word")
    _add_numbers(table, "times")
    for header in ("pieces",) if len(splits[0]) == 3 else ("before", "after"):
        table.add_column(header, overflow="fold")
    for word, count, *pieces in splits:
        cells = (Text(notation.visible(" ".join(cut))) for cut in pieces)
        table.add_row(Text(notation.visible(word)), notation.count(count), *cells)
    console.print(table)


def _table(first: str, footer: str = "") -> Table:
    """A table with its first column, which holds names."""
    table = Table(box=box.SIMPLE_HEAD, show_footer=bool(footer), pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, footer, overflow="fold")
    return table


def _add_numbers(table: Table, header: str, footer: Text | str = "") -> None:
    """A column of numbers, with their total in the footer."""
    table.add_column(Text(notation.visible(header)), footer, justify="right", no_wrap=True)


def _print(console: Console, text: str, style: str = "") -> None:
    if text:
        console.print(Text(notation.visible(text), style=style))


def _estimate(estimate: Estimate) -> Text:
    interval = f"{notation.score(estimate['low'])}-{notation.score(estimate['high'])}"
    return Text.assemble(notation.score(estimate["mean"]), "\n", (interval, "dim"))


def _comparison(comparison: Comparison) -> Text:
    said = finding(comparison)
    interval = f"{notation.difference(comparison['low'])} to {notation.difference(comparison['high'])}"
    return Text.assemble(
        f"{notation.difference(comparison['difference'])}, {notation.probability(comparison['p_adjusted'])}\n",
        (interval, "dim"),
        "\n",
        (said, FINDING_STYLES[said]),
    )


def _total(values: Iterable[float | None]) -> float:
    return sum(value or 0 for value in values)


def _work(tokens: float | None, flops: float | None) -> Text:
    lines = [notation.quantity(tokens) + " tokens" if tokens else "", notation.quantity(flops, "FLOP") if flops else ""]
    return Text("\n".join(line for line in lines if line))
