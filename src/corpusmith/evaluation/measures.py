"""nDCG@10, MRR@10 and Recall@100 of rankings, by ir-measures, which calls trec_eval's own code.

What is judged is the order handed in: trec_eval breaks equal scores by document id, so each document gets its
position as its score. A query that found nothing counts 0; no query is ever left out of a mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from corpusmith.evaluation.base import Measured, QuerySet

MEASURES = {"nDCG@10": "nDCG@10", "MRR@10": "RR@10", "Recall@100": "R@100"}
"""Names as reports print them, and as ir-measures calls them."""


def measure(query_set: QuerySet, run: Mapping[str, Sequence[str]]) -> Measured:
    """Per-query values of all `MEASURES` for `run[query id]` = document ids, best first, none twice.

    nDCG takes the grade itself as gain (Järvelin & Kekäläinen 2002, as in trec_eval); for the other two every grade
    above 0 is relevant. Documents in `query_set.exclude` are skipped.
    """
    import ir_measures

    wanted = {ir_measures.parse_measure(code): name for name, code in MEASURES.items()}
    values = {name: dict.fromkeys(query_set.queries, 0.0) for name in MEASURES}
    scored = {query: _scores(run.get(query, ()), query_set.exclude.get(query, ())) for query in query_set.queries}
    for result in ir_measures.iter_calc(list(wanted), query_set.qrels, scored):
        values[wanted[result.measure]][result.query_id] = result.value
    return Measured(
        tuple(query_set.queries), {name: np.array(list(by_query.values())) for name, by_query in values.items()}
    )


def _scores(documents: Sequence[str], excluded: Sequence[str] | set[str]) -> dict[str, float]:
    kept = [document for document in documents if document not in excluded]
    return {document: float(len(kept) - position) for position, document in enumerate(kept)}
