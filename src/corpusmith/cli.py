"""The commands, thin: parse, call, print.

Everything heavy is imported inside the commands, so that `corpusmith --help` answers at once; how they end when
something is wrong stands in `exits`. Help is plain text, because examples must come out as they can be typed.
"""

from __future__ import annotations

import io
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from corpusmith import environment
from corpusmith.errors import RecipeError
from corpusmith.exits import Commands, console, errors, open_streams, say
from corpusmith.paths import given_path

if TYPE_CHECKING:
    from corpusmith.corpus.lines import Lines
    from corpusmith.recipe import Recipe
    from corpusmith.report.base import Evaluation

EXIT_CODES = "Exit codes: 0 done, 2 something you can mend (one sentence says what), 130 interrupted."
ALGORITHMS = "wordpiece, unigram, bpe and bytes"


app = typer.Typer(
    name="corpusmith",
    cls=Commands,
    help="From a pile of documents to a model that knows the domain and a search engine over it, within the minutes "
    f"you state.\n\n\b\nExamples:\n  corpusmith build ~/papers --minutes 20 --out papers\n"
    f"  corpusmith search papers 'does aspirin prevent stroke'\n\n{EXIT_CODES}",
    epilog="corpusmith COMMAND --help says more about each.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Out = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        parser=given_path,
        help="Folder for everything the build makes; run again to resume.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Replace one option, e.g. --set corpus.passage_words=120. Repeatable."
    ),
]
Built = Annotated[
    Path, typer.Argument(metavar="DIR", parser=given_path, help="The folder that a build wrote (its --out).")
]


def _version(wanted: bool) -> None:
    if wanted:
        import corpusmith

        say(console, f"corpusmith {corpusmith.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command."""


@app.command()
def build(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATH...",
            parser=given_path,
            help="Folders or files: txt, md, html, rst, jsonl, csv, tsv, parquet, PubMed XML, PDF, gzipped or not; "
            "or one BEIR folder (corpus, queries, qrels).",
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option("--recipe", "-r", metavar="FILE", parser=given_path, help="A TOML recipe (docs/recipe.md)."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", "-p", metavar="NAME", help="A ready-made recipe: corpusmith presets.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", "-m", min=0.1, metavar="N", help="What the whole build may take, in minutes."),
    ] = None,
    out: Out = Path("corpusmith-out"),
    settings: Settings = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first document that would be dropped.")] = False,
    dry_run: Annotated[bool, typer.Option("--plan", help="Print the plan and stop.")] = False,
) -> None:
    """Build a model, an index and a report from documents.

    Prints the plan, then runs it: read and clean the documents, index them, train the base model on pairs made from
    the documents themselves, keep the trained model only if held-out queries say it is better, choose how words and
    vectors are joined, measure everything against the best starting point.

    The folder holds in the end: model/ (loads in transformers and sentence-transformers), index/, report.html,
    recipe.toml, and steps/ with what was made on the way. Interrupted at any moment, the same command goes on where
    it was. Nothing is ever downloaded unless the recipe says model.allow_download = true.

    \b
    Examples:
      corpusmith build ~/papers --minutes 20 --out papers
      corpusmith build data/scifact --preset supervised --out scifact
      corpusmith build notes.jsonl --set corpus.text_field=body --out notes
    """
    chosen = _recipe(recipe, preset, minutes, settings, strict)
    _build(paths or [], chosen, out, recipe_file=recipe, dry_run=dry_run)


@app.command()
def demo(
    out: Out = Path("demo"),
    minutes: Annotated[
        float | None, typer.Option("--minutes", "-m", min=0.1, metavar="N", help="Budget in minutes.")
    ] = None,
) -> None:
    """Run it all on Python documentation, offline.

    The documents are the docstrings of the Python packages installed here. Builds, measures on held-out summary
    lines and See Also lists, and runs three searches.

    \b
    Example:
      corpusmith demo --minutes 10 --out demo
    """
    from corpusmith.pipeline.summary import DEMONSTRATION_SEARCHES

    _build([], _recipe(None, "demo", minutes, None, False), out)
    for query in DEMONSTRATION_SEARCHES:
        say(console, f"\n$ corpusmith search {out} {json.dumps(query)} -k 3", "bold")
        _print_results(out, query, 3)
    say(console, f"\nThe report: {out / 'report.html'}")


@app.command()
def compare(
    recipes: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE...",
            help="TOML recipes or names of presets, two or more; the first is the one that the others are set against.",
        ),
    ],
    budget: Annotated[
        str,
        typer.Option(
            "--budget",
            "-b",
            metavar="'N UNIT'",
            help="What the training of each recipe may cost: '5 minutes', '2e6 tokens' or '5e13 flops'.",
        ),
    ],
    corpus: Annotated[
        list[Path] | None,
        typer.Option(
            "--corpus",
            "-c",
            metavar="PATH",
            parser=given_path,
            help="Documents, as in build; a BEIR folder brings judged queries. Repeatable.",
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, max=1000, metavar="N", help="How many times each is trained.")
    ] = 3,
    split: Annotated[
        str,
        typer.Option(
            "--split",
            metavar="NAME",
            help="Which qrels/<split>.tsv of a BEIR folder; held-out asks the queries made from the corpus.",
        ),
    ] = "test",
    out: Out = Path("corpusmith-comparison"),
    settings: Settings = None,
) -> None:
    """Compare recipes on your own corpus, at equal cost.

    Trains each recipe from its start with each seed, all at the same cost, and measures every model as it comes out,
    alone and fused with BM25. What the runs have in common is made once. Prints each recipe's difference from the
    first with interval and paired test, and leaves compare.json and compare.md in the folder. Interrupted at any
    moment, the same command goes on where it was.

    Queries are the judged ones of a BEIR folder, else the corpus's own held-out ones. Only FLOPs are the same cost
    on any machine and for any objective; minutes are what a user pays.

    \b
    Examples:
      corpusmith compare plain.toml retromae.toml --budget '5e13 flops' --corpus ~/papers --out starts
      corpusmith compare default pretrain --budget '10 minutes' --corpus data/scifact --seeds 5
    """
    from corpusmith.pipeline import compare
    from corpusmith.pipeline.comparison import named_recipes
    from corpusmith.pipeline.outputs import refuse_to_overwrite
    from corpusmith.pipeline.run import recipe_files
    from corpusmith.progress import TerminalWatcher
    from corpusmith.report.terminal import print_comparison

    overrides = _overrides(settings)
    chosen = {name: recipe.with_overrides(overrides) for name, recipe in named_recipes(recipes).items()}
    refuse_to_overwrite(out, corpus or [], chosen.values(), recipe_files(recipes))
    with TerminalWatcher(console) as watcher:
        result = compare(
            *(corpus or []), recipes=chosen, budget=budget, out=out, seeds=seeds, split=split, watcher=watcher
        )
    print_comparison(result.summary, console)
    say(console, f"\nAll figures: {out / 'compare.json'}; the tables: {out / 'compare.md'}")


@app.command()
def vocabulary(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...", parser=given_path, help="Documents, as in build: folders or files of any kind."
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option(
            "--base", metavar="NAME", help="The model whose vocabulary is measured, as model.base in a recipe."
        ),
    ] = None,
    algorithm: Annotated[
        str,
        typer.Option("--algorithm", metavar="NAME", help="What is learned from the documents: " + ALGORITHMS + "."),
    ] = "wordpiece",
    size: Annotated[
        int, typer.Option("--size", min=300, max=1_000_000, metavar="N", help="Entries of what is learned.")
    ] = 16_000,
    pieces: Annotated[
        int, typer.Option("--pieces", min=1, max=200_000, metavar="N", help="Pieces that the base is extended by.")
    ] = 2000,
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="The whole report as JSON.")] = False,
) -> None:
    """Show how a model's vocabulary cuts your documents.

    Prints tokens per word, the share of words kept whole, what is unknown, the words that cost the most tokens, what
    of a passage the model does not read, and what one pass of the documents takes: with the base's vocabulary, with
    more pieces added to it, and with one learned from the documents alone. Pieces are learned from every second
    document and measured on the others. How far the documents are from general text, and what a build with
    start = "auto" would do, stand below. Nothing is trained but tokenizers, and nothing is written.

    \b
    Examples:
      corpusmith vocabulary ~/papers
      corpusmith vocabulary ~/papers --base models/roberta --algorithm bpe --json
    """
    from typing import get_args

    from corpusmith.pipeline.vocabulary import survey_vocabulary
    from corpusmith.report.terminal import print_fertility
    from corpusmith.vocabulary.config import Algorithm, ExtendConfig, ReplaceConfig

    if algorithm not in get_args(Algorithm):
        raise RecipeError(f"--algorithm {algorithm}: there are {ALGORITHMS}.")
    recipe = _recipe(
        None, None, None, [*(settings or []), *([f"model.base={json.dumps(base)}"] if base else [])], False
    )
    replace = ReplaceConfig(algorithm=cast("Algorithm", algorithm), size=size)
    report, decision = survey_vocabulary(
        paths, recipe, ExtendConfig(pieces=pieces), replace, say=lambda text: say(errors, text)
    )
    if as_json:
        print(json.dumps(report.to_json() | {"auto": decision.to_json()}, ensure_ascii=False))
    else:
        print_fertility(report, console)
        say(console, f'A build with start = "auto" would {decision.options.kind} it: {decision.reason}.')


@app.command()
def merge(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL...",
            parser=given_path,
            help="Builds' folders, or folders with a model; two or more of one start.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", parser=given_path, help="A new folder, for the model they become."),
    ],
    align: Annotated[
        bool,
        typer.Option("--align", help="First put the units of each further model in the order of the first model's."),
    ] = False,
    greedy: Annotated[
        Path | None,
        typer.Option(
            "--greedy",
            metavar="DIR",
            parser=given_path,
            help="Take only models that help, by dense nDCG@10 on the held-out validation queries of this finished "
            "build.",
        ),
    ] = None,
) -> None:
    """Make one model of several by averaging their weights.

    The mean of models that were trained from one start (with other seeds, rates or objectives) is often as good as the
    best of them, at the cost of one. It loads in transformers and sentence-transformers, and can be the base of a
    recipe. A masked-language head is kept where all have one.

    With --greedy the best model is taken first, and of the others each that does not lower the score. Builds that judge
    and builds that are judged should be of the same documents with the same seed: they hold out the same queries. The
    score reached is what the choice was made by, not a measure of its quality.

    \b
    Examples:
      corpusmith merge papers-mlm papers-retromae --out papers-mean
      corpusmith merge run1 run2 run3 --greedy run1 --out best
    """
    from corpusmith.pipeline import merge as merge_models
    from corpusmith.progress import TerminalWatcher

    with TerminalWatcher(console) as watcher:
        result = merge_models(models, out, align, greedy, watcher)
    say(console, f"{len(result.taken)} of {len(models)} models taken: {', '.join(result.taken)}")
    say(console, f"Their mean: {out}" if len(result.taken) > 1 else f"The model: {out}")


@app.command()
def search(
    folder: Built,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for.")],
    k: Annotated[int, typer.Option("-k", min=1, metavar="N", help="How many documents.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, the whole passage in it.")] = False,
    mode: Annotated[
        str, typer.Option("--mode", metavar="MODE", help="fused, lexical (BM25 alone) or dense (the model alone).")
    ] = "fused",
) -> None:
    """Search a build, by words and by meaning.

    Prints rank, title, document id, score (comparable within one search only) and the part of the document that
    speaks for it. A query without a letter or digit finds nothing.

    \b
    Examples:
      corpusmith search papers "does aspirin prevent stroke" -k 5
      corpusmith search papers "aspirin" --json | jq -r .document_id
    """
    if mode not in ("fused", "lexical", "dense"):
        raise RecipeError(f"--mode {mode}: there are fused, lexical and dense.")
    _print_results(folder, query, k, mode, as_json)


@app.command()
def evaluate(
    folder: Built,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="FOLDER",
            parser=given_path,
            help="A BEIR folder: its queries and qrels are used, not its corpus.",
        ),
    ],
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="Which qrels/<split>.tsv.")] = "test",
    as_json: Annotated[bool, typer.Option("--json", help="The whole evaluation as JSON.")] = False,
) -> None:
    """Measure a build on judged queries.

    Prints nDCG@10, MRR@10 and Recall@100 with 95% intervals and paired tests against the best of BM25, the model
    alone and their plain fusion. The judged documents must be those of the build, with the same ids.

    \b
    Example:
      corpusmith evaluate scifact --data data/scifact --split test
    """
    from corpusmith import load
    from corpusmith.evaluation.beir import read_beir
    from corpusmith.report.terminal import print_evaluation

    query_set = read_beir(data, split)
    evaluation = load(folder).evaluate(query_set)
    if as_json:
        print(json.dumps(evaluation))
    else:
        print_evaluation(cast("Evaluation", evaluation), console)


@app.command()
def inspect(
    folder: Built,
    as_json: Annotated[bool, typer.Option("--json", help="Every manifest as JSON.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Also verify every file's digest.")] = False,
) -> None:
    """Show what made what, from what, at what cost.

    \b
    Example:
      corpusmith inspect papers --check
    """
    from corpusmith.artefact import MANIFEST
    from corpusmith.pipeline.summary import chain_of
    from corpusmith.report.terminal import print_chain

    chain = chain_of(folder, check=check)
    if as_json:
        print(json.dumps(chain, indent=2))
    else:
        print_chain(chain, console)
    kinds, found = {link["kind"] for link in chain}, folder / "compare.md"
    if "measures" in kinds:
        unfinished = "This comparison is unfinished: the command that began it goes on where it was."
        say(errors, f"This is a comparison; what it found stands in {found}." if found.is_file() else unfinished)
    elif not {"model", "index"} <= kinds and not (folder / MANIFEST).is_file():
        say(errors, "This build is unfinished: the command that began it goes on where it was.")


@app.command()
def presets() -> None:
    """List the ready-made recipes."""
    from corpusmith.recipe import presets as all_presets

    for name, recipe in all_presets().items():
        say(console, f"{name:<12} {recipe.description}")


@app.command()
def validate(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", parser=given_path, help="A TOML recipe.")],
) -> None:
    """Check a recipe and print it in full.

    Nothing is run; every default is filled in.

    \b
    Example:
      corpusmith validate mine.toml > complete.toml
    """
    from corpusmith.recipe import read_recipe, to_toml

    print(to_toml(read_recipe(recipe)), end="")
    say(errors, f"{recipe} is a valid recipe.")


@app.command()
def encode(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", parser=given_path, help="A build's folder, or a folder with a model.")
    ],
    texts: Annotated[
        Path,
        typer.Argument(
            metavar="TEXTS", parser=given_path, help="A text file, one text a line; - reads standard input."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            parser=given_path,
            help="Where the vectors go (.npy, float32, one row a line).",
        ),
    ],
) -> None:
    """Encode texts, one a line, as vectors.

    Writes a NumPy file, float32, a row of length 1 for each line. A blank line is a text too, so that row n of the
    array is line n of the file. Memory does not grow with the file, and an interrupted command goes on where it was
    when it is given again.

    \b
    Examples:
      corpusmith encode papers queries.txt --out queries.npy
      cut -f2 table.tsv | corpusmith encode papers - --out vectors.npy
    """
    from corpusmith.pipeline.encode import encode_texts
    from corpusmith.pipeline.outputs import refuse_to_replace
    from corpusmith.progress import TerminalWatcher

    refuse_to_replace(out, folder, texts)
    lines = _lines(texts)
    with TerminalWatcher(errors) as watcher:
        dimension = encode_texts(folder, lines, out, watcher)
    say(errors, f"{len(lines)} texts, {dimension} dimensions: {out}")


def _lines(path: Path) -> Lines:
    """The lines of a file or of standard input."""
    from corpusmith.corpus.lines import Lines

    try:
        lines = Lines(sys.stdin.buffer.read()) if str(path) == "-" else Lines.open(path)
    except OSError as error:
        raise RecipeError(f"cannot read {path}: {error.strerror}.") from error
    if len(lines) == 0 or (len(lines) == 1 and not lines[0]):
        raise RecipeError(f"{'standard input' if str(path) == '-' else path} holds no text; give one text a line.")
    return lines


def _recipe(
    path: Path | None, preset: str | None, minutes: float | None, settings: list[str] | None, strict: bool
) -> Recipe:
    from corpusmith.pipeline import resolve_recipe

    if path and preset:
        raise RecipeError("--recipe and --preset exclude each other; a recipe file holds all options.")
    overrides = _overrides(settings)
    if minutes is not None:
        overrides["budget.minutes"] = minutes
    if strict:
        overrides["corpus.strict"] = True
    recipe = resolve_recipe(path or preset)
    return recipe.with_overrides(overrides) if overrides else recipe


def _overrides(settings: list[str] | None) -> dict[str, Any]:
    """What --set gives: dotted options with their values."""
    overrides: dict[str, Any] = {}
    for setting in settings or []:
        name, equals, value = setting.partition("=")
        if not equals or not name.strip():
            raise RecipeError(f"--set {setting}: write NAME=VALUE, as in corpus.passage_words=120.")
        overrides[name.strip()] = _value(value.strip())
    return overrides


def _value(text: str) -> Any:
    """A value given on the command line: JSON where it is JSON, else a string."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _build(
    paths: list[Path], recipe: Recipe, out: Path, *, recipe_file: Path | None = None, dry_run: bool = False
) -> None:
    from corpusmith.pipeline import build
    from corpusmith.pipeline.outputs import refuse_to_overwrite
    from corpusmith.pipeline.plan import make_plan, scarcity
    from corpusmith.pipeline.settle import settle_measured
    from corpusmith.progress import TerminalWatcher
    from corpusmith.report.terminal import print_evaluation, print_plan

    refuse_to_overwrite(out, paths, [recipe], [recipe_file] if recipe_file else [])
    settled = settle_measured(recipe, paths)
    recipe = settled.recipe
    if recipe.start.reason:
        say(console, f"Start: {recipe.start.reason}.")
    plan = make_plan(paths, recipe, out, settled.decision)
    print_plan(plan, console)
    for warning in scarcity(plan, out):
        say(errors, warning)
    if dry_run:
        return
    with TerminalWatcher(console) as watcher:
        result = build(*paths, recipe=recipe, out=out, watcher=watcher)
    for evaluation in result.summary["evaluations"]:
        print_evaluation(evaluation, console)
    for sentence in result.summary["verdict"]:
        say(console, f"- {sentence}")
    say(console, f"\nSearch it:  corpusmith search {shlex.quote(str(out))} 'a question'")
    say(console, f"Report:     {out / 'report.html'}")


def _print_results(folder: Path, query: str, k: int, mode: Any = "fused", as_json: bool = False) -> None:
    from dataclasses import asdict

    from corpusmith import load
    from corpusmith.report.terminal import print_results

    results = load(folder).search(query, k, mode)
    if as_json:
        for result in results:
            print(json.dumps(asdict(result), ensure_ascii=False))
    else:
        print_results(results, query, console)


def main() -> None:
    """Entry point. A terminal that cannot show a character gets its escape sequence."""
    open_streams()
    environment.keep_freed_memory()
    environment.share_cores()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()
