"""How much compute a grown model saves, against one of the same shape that is trained from random weights.

A small model is trained on a corpus, grown by each way of `WAYS`, and trained on; beside it the large model from
scratch, on the same passages with the same FLOPs. The curve of the masked-language loss on passages held out says at
how many FLOPs the grown model is as good as the scratch model is at its end; what is left then is what was saved:
without the small model's own training, as for somebody who has it, and with it. A grown model that is never as good is
set against the FLOPs at which the scratch model was as good as that one is at its end, and has saved less than nothing.
What learning an operator spends counts both times. The learning rate stays constant, so that a curve's every point is a
fair end. A seed decides the weights at random, what is drawn in growing, and the order of the data.

    CORPUSMITH_DATA=DATA python -m benchmarks.claims.growth --work WORK --quick

Results go to benchmarks/results/claims/growth.json way by way; runs that were cut off go on where they were, and a way
that is there for the same settings is not measured again. `make docs` then writes docs/systems.md.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.claims.default_preset import Lines
from benchmarks.claims.search_settings import read_lines, write_records
from benchmarks.claims.table import RESULTS, Fragment, verdict
from benchmarks.record import read_parts, update_results
from scipy.stats import t as student

from corpusmith.locks import locked
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.huggingface import export_checkpoint, load_checkpoint
from corpusmith.pipeline.comparison import AFTER_TRAINING, SharedWorkspace
from corpusmith.pipeline.run import chain, run_steps
from corpusmith.recipe import Recipe, parse_recipe
from corpusmith.vocabulary.config import ReplaceConfig
from corpusmith.vocabulary.sample import sample_documents
from corpusmith.vocabulary.tokenizer import Tokenizer
from corpusmith.vocabulary.train import train_tokenizer

FILE = RESULTS / "growth.json"
TOKENIZER = "all-MiniLM-L6-v2"
"""Whose special tokens and normalisation the corpus's vocabulary has."""
HELD_OUT = 128
"""Passages whose loss is asked."""
WARMUP = 0.1
"""Share of the steps. With 0.02 and a rate of 2e-3 the scratch model did not get beyond the frequencies of words, with
none of three seeds, and any way of growing seemed to save nearly everything."""
MASKED: Fragment = {"kind": "masked_language"}
TWO_STAGES: Fragment = {"kind": "substructures", "objective": MASKED}

NARROW = {"hidden_size": 0.5, "heads": 0.5, "intermediate_size": 0.5}
SHALLOW = {"layers": 0.5}


@dataclass(frozen=True)
class Way:
    """A way from a small model to the large one.

    Attributes:
        source: how large the small model is, as shares of the large one's sizes where it is smaller.
        growth: the operators.
        share: FLOPs of the small model's training, as a share of the large one's.
        paper: what it reports.
        counted: whether what it reports counts the small model's training.
        objective: what the grown model is trained with.
    """

    source: dict[str, float]
    growth: tuple[Fragment, ...]
    share: float
    paper: str
    counted: bool = False
    objective: Fragment = field(default_factory=lambda: MASKED)


LONG, SHORT = 0.25, 0.05
"""Of models to be widened, and of those to be stacked: Du et al. spend little on the small one (`stack.guidance`)."""
FEW = {"batch_tokens": 512}
"""An operator's hundred steps of learning are as small a part of short training as the papers' are of theirs."""
DEEPER = "Du et al.: slower than stacking"

WAYS = {
    "stack": Way(SHALLOW, ({"kind": "stack"},), SHORT, "G_stack (Du et al. 2024): 54.6% faster to the same loss", True),
    "fpi": Way(NARROW, ({"kind": "fpi"},), LONG, "bert2BERT (Chen et al. 2022), section 4.2"),
    "aki": Way(NARROW, ({"kind": "aki"},), LONG, "bert2BERT: 40.7% saved by widening with advanced knowledge"),
    "ligo": Way(
        NARROW | SHALLOW, ({"kind": "ligo"} | FEW,), LONG, "LiGO (Wang et al. 2023): 44.7% of BERT-Base's FLOPs saved"
    ),
    "mango": Way(
        NARROW | SHALLOW,
        ({"kind": "mango"} | FEW,),
        LONG,
        "Mango (Pan et al. 2023): 39.2% saved on BERT-Base, 76.4% on DeiT-B",
    ),
    "identity": Way(SHALLOW, ({"kind": "identity"},), SHORT, f"LLaMA Pro (2024); {DEEPER}", True),
    "aki, two stages": Way(
        NARROW, ({"kind": "aki"},), LONG, "bert2BERT: 45.2% saved with two-stage training", objective=TWO_STAGES
    ),
    "interleave": Way(SHALLOW, ({"kind": "interleave"},), SHORT, DEEPER, True),
    "depth up-scaling": Way(
        {"layers": 0.75}, ({"kind": "depth_upscaling"},), SHORT, "SOLAR (Kim et al. 2023), no figure", True
    ),
    "fpi and stack": Way(NARROW | SHALLOW, ({"kind": "fpi"}, {"kind": "stack"}), LONG, "bert2BERT's depth by stacking"),
    "mixture": Way(
        NARROW | SHALLOW, ({"kind": "mixture"},), LONG, "MixtureGrowth (2023), of linear mixtures of templates"
    ),
}
"""By name. Figures are the papers' own, of models a hundred to a thousand times as large."""


@dataclass(frozen=True)
class Form:
    """How much is measured: the corpus and how much of it, the large model, entries of its vocabulary, seeds, and FLOPs
    of its training."""

    name: str
    corpus: str
    documents: int
    large: dict[str, int]
    entries: int
    seeds: int
    flops: float
    batch_tokens: int
    learning_rate: float
    evaluations: int


TINY = {"hidden_size": 128, "layers": 4, "heads": 2, "intermediate_size": 512}
SMALL = {"hidden_size": 256, "layers": 8, "heads": 4, "intermediate_size": 1024}
QUICK = Form("quick", "trials", 200, TINY, 2000, 3, 1e13, 2048, 1e-3, 16)
FULL = Form("full", "trials", 3000, SMALL, 8000, 3, 1e15, 8192, 7e-4, 40)
FORMS = (QUICK, FULL)
COUNTED = ("without the source", "with the source")
"""What a share saved counts: the small model's own training, or not."""

Curve = list[tuple[float, float]]
"""FLOPs spent and the loss on what is held out, from the start on."""


@dataclass(frozen=True)
class Harness:
    """Where ways are measured."""

    data: Path
    work: Path
    form: Form

    def measure(self, name: str, way: Way) -> dict[str, Any]:
        """All seeds of a way, and what it saved."""
        by_seed = [self._seed(way, seed) for seed in range(self.form.seeds)]
        found: dict[str, Any] = {"settings": self.settings(way), "by_seed": by_seed}
        for counted in COUNTED:
            found[counted] = _interval([seed["saved"][counted] for seed in by_seed])
        deciding = found[COUNTED[way.counted]]
        return found | {"verdict": verdict(deciding["low"], deciding["high"])}

    def settings(self, way: Way) -> dict[str, Any]:
        """All that the figures depend on, beside the data."""
        return json.loads(json.dumps({"way": asdict(way) | {"paper": ""}, "form": asdict(self.form)}))

    def _seed(self, way: Way, seed: int) -> dict[str, Any]:
        form = self.form
        scratch = curve_of(self._run(self._fresh({}, seed), {}, MASKED, form.flops, seed))
        smaller = {name: round(share * form.large[name]) for name, share in way.source.items()}
        source = self._run(self._fresh(smaller, seed), {}, MASKED, way.share * form.flops, seed)
        spent = source.manifests["stage-1"].cost["flops"]
        shape = {name: form.large[name] for name in way.source}
        grown = self._run(
            source.path("stage-1") / "model", {"growth": list(way.growth)} | shape, way.objective, form.flops, seed
        )
        growing = grown.manifests["growth"].cost["flops"]
        curve = curve_of(grown)
        ours, theirs, reached = as_good(curve, scratch)
        return {
            "scratch": scratch,
            "grown": curve,
            "source_flops": spent,
            "source_loss": curve_of(source)[-1][1],
            "growing_flops": growing,
            "reached": reached,
            "loss_at_the_end": curve[-1][1] - scratch[-1][1],
            "saved": {
                "without the source": 1 - (ours + growing) / theirs,
                "with the source": 1 - (ours + growing + spent) / theirs,
            },
        }

    def _run(self, base: Path, start: Fragment, objective: Fragment, flops: float, seed: int) -> SharedWorkspace:
        """A model trained, or found trained."""
        work = SharedWorkspace([self.corpus()], self._recipe(base, start, objective, flops, seed), self.work, Lines())
        with locked(work.folder):
            run_steps(work, [step for step in chain(work) if step.name not in (*AFTER_TRAINING, "trained")])
        return work

    def _recipe(self, base: Path, start: Fragment, objective: Fragment, flops: float, seed: int) -> Recipe:
        form = self.form
        training = {
            "learning_rate": form.learning_rate,
            "fresh_learning_rate": form.learning_rate,
            "batch_tokens": form.batch_tokens,
            "decay": 0.0,
            "warmup": WARMUP,
            "evaluations": form.evaluations,
            "held_out": HELD_OUT,
            "keep_best": False,
            "max_epochs": 100_000,
            "checkpoint_minutes": 10,
        }
        stage = {"objective": objective, "training": training, "budget": {"flops": flops}, "seed": seed}
        content = {"model": {"base": str(base)}, "heldout": {"queries": 0}, "start": start | {"seed": seed}}
        content |= {"stages": [stage], "search": {"model": "trained"}}
        return parse_recipe(content, "growth")

    def corpus(self) -> Path:
        """The first documents of the corpus, as records."""
        path = self.work / f"{self.form.corpus}-{self.form.documents}.jsonl"
        if not path.exists():
            lines = read_lines(self.data / "pretrain" / f"{self.form.corpus}.jsonl.gz")
            records = [record for record, _ in zip(lines, range(self.form.documents), strict=False)]
            partial = path.with_name(f".{path.name}")
            write_records(partial, iter(records))
            partial.rename(path)
        return path

    def _fresh(self, differing: dict[str, int], seed: int) -> Path:
        """A model of random weights over a vocabulary learned from the corpus."""
        sizes = self.form.large | differing
        folder = self.work / f"fresh-L{sizes['layers']}-H{sizes['hidden_size']}-{seed}"
        if folder.exists():
            return folder
        tokenizer = self._tokenizer()
        config = EncoderConfig(model_type="bert", vocabulary_size=tokenizer.size, max_positions=256, **sizes)
        encoder = Encoder(config, torch.Generator().manual_seed(seed))
        partial = folder.with_name(f".{folder.name}")
        partial.mkdir(parents=True, exist_ok=True)
        checkpoint = Checkpoint(encoder, None, tokenizer, "mean", True, 256, "fresh", config.to_hugging_face())
        export_checkpoint(checkpoint, partial)
        partial.rename(folder)
        return folder

    def _tokenizer(self) -> Tokenizer:
        from corpusmith.corpus.config import CorpusConfig
        from corpusmith.corpus.read import read

        options = ReplaceConfig(size=self.form.entries)
        sample = sample_documents(read([self.corpus()], CorpusConfig()), options.sample_characters, 0)
        return train_tokenizer(options, load_checkpoint(TOKENIZER).tokenizer, sample.texts)


def curve_of(work: SharedWorkspace) -> Curve:
    """The evaluations of a run's only stage, the start's among them."""
    spent, curve = {0: 0.0}, []
    for line in (work.path("stage-1") / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if "flops" in entry:
            spent[entry["step"]] = entry["flops"]
        else:
            curve.append((spent[entry["step"]], entry["held_out_loss"]))
    return curve


def flops_to_reach(curve: Curve, loss: float) -> float | None:
    """FLOPs at which a curve is first at this loss, between evaluations in a straight line; None if it never is."""
    for (before, worse), (after, better) in pairwise(curve):
        if worse <= loss:
            return before
        if better <= loss:
            return before + (after - before) * (worse - loss) / (worse - better)
    return None


def as_good(grown: Curve, scratch: Curve) -> tuple[float, float, bool]:
    """FLOPs after which both are equally good, the grown model's first: where it comes to the scratch model's last loss
    (and whether it does), or else where the scratch model came to its last loss."""
    reached = flops_to_reach(grown, scratch[-1][1])
    if reached is not None:
        return reached, scratch[-1][0], True
    before = flops_to_reach(scratch, grown[-1][1])
    assert before is not None, "the scratch model ends at a lower loss"
    return grown[-1][0], max(before, scratch[1][0]), False


def _interval(values: Sequence[float]) -> dict[str, float]:
    """Mean with a 95% interval over seeds, by Student's t."""
    mean = float(np.mean(values))
    margin = float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return {"mean": mean, "low": mean - margin, "high": mean + margin}


def main() -> None:
    """Measure the ways asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="where the corpus and runs go")
    parser.add_argument("--quick", action="store_true", help="some minutes a way on two cores")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS), metavar="WAY", help=", ".join(WAYS))
    parser.add_argument("--results", type=Path, default=FILE)
    arguments = parser.parse_args()
    form = QUICK if arguments.quick else FULL
    harness = Harness(Path(os.environ["CORPUSMITH_DATA"]), arguments.work, form)
    arguments.work.mkdir(parents=True, exist_ok=True)
    for name in arguments.ways:
        part = part_name(name, form)
        if read_parts(arguments.results).get(part, {}).get("settings") == harness.settings(WAYS[name]):
            print(f"{part}: measured before", flush=True)
            continue
        found = harness.measure(name, WAYS[name])
        update_results(arguments.results, part, found)
        saved = (f"{counted} {said(found[counted])}" for counted in COUNTED)
        print(f"{part}: {found['verdict']}, saved {', '.join(saved)}", flush=True)


def part_name(name: str, form: Form) -> str:
    """Under which name a way's results stand in the file."""
    return f"{name}, {form.name}"


def said(found: dict[str, float]) -> str:
    """A share that was saved, for people."""
    mean, low, high = (round(found[name], 2) + 0.0 for name in ("mean", "low", "high"))  # no "-0%"
    return f"{mean:.0%} [{low:.0%}, {high:.0%}]"


if __name__ == "__main__":
    main()
