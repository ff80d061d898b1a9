"""Write metrics.json: what scikit-learn, scipy, seqeval and the published scripts say of some answers.

    python tests/golden/write_metrics.py evaluate-v1.1.py evaluate-v2.0.py cmrc2018_evaluate.py

(needs scikit-learn, scipy, seqeval and nltk). The first two scripts are those of SQuAD's site,
https://rajpurkar.github.io/SQuAD-explorer; the third is baseline/cmrc2018_evaluate.py of github.com/ymcui/cmrc2018,
with NLTK 3.10 splitting words in one line, since its data for finding sentences are no part of it.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import random
import sys
import warnings
from pathlib import Path

import scipy.stats
import seqeval.metrics
import seqeval.scheme
import sklearn.metrics

NAMES = ["a", "b", "c", "d"]
SCHEMES = {"IOB1": "IOB", "IOB2": "IOB", "IOE2": "IOE", "IOBES": "IOBES", "BILOU": "BILOU"}
ENGLISH = ["the", "a", "film", "Film", "not", "don't", "U.S.", "3.14", "1,000", '"plot"', "(good)", "50%", "end.", ""]
CHINESE = ["我", "爱", "电影", "好看", "，", "。", "《北京》", "NBA", "3.5%", "O'Neal", " the plot ", "-", "…", '"a"']


def classification(rng, examples, names):
    """`names` are those that occur, of all four."""
    true, predicted = (rng.choices(names, k=examples) for _ in range(2))
    score = {"zero_division": 0}
    rates = sklearn.metrics.precision_recall_fscore_support(true, predicted, labels=NAMES, **score)
    return {
        "true": true,
        "pred": predicted,
        "metrics": {
            "accuracy": sklearn.metrics.accuracy_score(true, predicted),
            "macro_f1": sklearn.metrics.f1_score(true, predicted, average="macro", **score),
            "micro_f1": sklearn.metrics.f1_score(true, predicted, average="micro", **score),
            "matthews_correlation": sklearn.metrics.matthews_corrcoef(true, predicted),
        },
        "rates": [column.tolist() for column in rates],
        "confusion_matrix": sklearn.metrics.confusion_matrix(true, predicted, labels=NAMES).tolist(),
    }


def multi_label(rng, examples, share):
    rows = [[[name for name in NAMES if rng.random() < share] for _ in range(examples)] for _ in range(2)]
    true, predicted = ([[int(name in labels) for name in NAMES] for labels in side] for side in rows)
    score = {"zero_division": 0}
    rates = sklearn.metrics.precision_recall_fscore_support(true, predicted, **score)
    return {
        "true": rows[0],
        "pred": rows[1],
        "metrics": {
            "exact_match": sklearn.metrics.accuracy_score(true, predicted),
            "macro_f1": sklearn.metrics.f1_score(true, predicted, average="macro", **score),
            "micro_f1": sklearn.metrics.f1_score(true, predicted, average="micro", **score),
        },
        "rates": [column.tolist() for column in rates],
    }


def correlation(rng, examples, values):
    """`values`: how many different ones there are; few give ties."""
    true = [rng.randrange(values) / 4 for _ in range(examples)]
    predicted = [value + rng.randrange(values) / 2 for value in true]
    return {
        "true": true,
        "pred": predicted,
        "metrics": {
            "pearson": scipy.stats.pearsonr(true, predicted).statistic,
            "spearman": scipy.stats.spearmanr(true, predicted).statistic,
        },
    }


def tags(rng, texts, scheme, prefixes):
    """Tags in no order at all, a third of them predicted wrong: most make no proper entity."""
    kinds = ["O"] + [f"{prefix}-{label}" for prefix in prefixes if prefix != "O" for label in ("PER", "LOC", "B-C")]
    true = [rng.choices(kinds, k=rng.randrange(9)) for _ in range(texts)]
    predicted = [[tag if rng.random() < 2 / 3 else rng.choice(kinds) for tag in row] for row in true]
    strict = {"mode": "strict", "scheme": getattr(seqeval.scheme, scheme)} if scheme else {}
    score = {"zero_division": 0, **strict}
    functions = {name: getattr(seqeval.metrics, f"{name}_score") for name in ("precision", "recall", "f1")}
    return {
        "scheme": scheme,
        "true": true,
        "pred": predicted,
        "metrics": {name: function(true, predicted, **score) for name, function in functions.items()}
        | {f"macro_{name}": f(true, predicted, average="macro", **score) for name, f in functions.items()},
    }


def answers(rng, questions, pieces, space, unanswerable, evaluate):
    def answer():
        return space.join(rng.choices(pieces, k=rng.randrange(5)))

    def right_answers():
        return [] if rng.random() < unanswerable else [answer() for _ in range(rng.randint(1, 3))]

    true = [right_answers() for _ in range(questions)]
    predicted = [rng.choice([answer(), *row]) for row in true]
    rows = [{"id": str(i), "answers": [{"text": text} for text in row]} for i, row in enumerate(true)]
    data = [{"paragraphs": [{"qas": rows}]}]
    metrics = evaluate(data, {row["id"]: text for row, text in zip(rows, predicted, strict=True)})
    return {"true": true, "pred": predicted, "metrics": {name: value / 100 for name, value in metrics.items()}}


def load(path):
    spec = importlib.util.spec_from_file_location("script", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def squad2(script, data, predicted):
    has_answer = script.make_qid_to_has_ans(data)
    scores = script.get_raw_scores(data, predicted)
    parts = {"": list(has_answer), "has_answer_": [i for i in has_answer if has_answer[i]]}
    parts["no_answer_"] = [i for i in has_answer if not has_answer[i]]
    found = {}
    for prefix, ids in parts.items():
        if ids:
            result = script.make_eval_dict(*scores, ids)
            found |= {f"{prefix}exact_match": result["exact"], f"{prefix}f1": result["f1"]}
    return found


def cmrc(script, data, predicted):
    f1, exact, _, _ = script.evaluate({"data": data}, predicted)
    return {"exact_match": exact, "f1": f1}


def main(squad1_script, squad2_script, cmrc_script):
    warnings.simplefilter("ignore")
    rng = random.Random(0)
    of_cmrc = load(cmrc_script)
    of_cmrc.nltk.word_tokenize = functools.partial(of_cmrc.nltk.word_tokenize, preserve_line=True)
    of_squad2 = functools.partial(squad2, load(squad2_script))
    content = {
        "classification": [classification(rng, n, NAMES) for n in (1, 2, 5, 40, 90)]
        + [classification(rng, n, NAMES[:k]) for n, k in ((7, 1), (30, 2), (30, 3))],
        "multi_label": [multi_label(rng, n, share) for n, share in ((1, 0.5), (3, 0), (6, 0.2), (50, 0.4), (20, 1))],
        "correlation": [correlation(rng, n, k) for n, k in ((2, 90), (5, 3), (40, 5), (40, 2), (60, 1000))],
        "tags": [tags(rng, n, None, "OBIES") for n in (1, 3, 30, 60)]
        + [tags(rng, n, scheme, prefixes) for scheme, prefixes in SCHEMES.items() for n in (3, 40)],
        "squad": [answers(rng, n, ENGLISH, " ", 0, load(squad1_script).evaluate) for n in (1, 40, 60)],
        "squad2": [
            answers(rng, n, ENGLISH, " ", share, of_squad2) for n, share in ((5, 0), (5, 1), (40, 0.4), (60, 0.2))
        ],
        "cmrc": [answers(rng, n, CHINESE, "", 0, functools.partial(cmrc, of_cmrc)) for n in (1, 40, 60)],
    }
    parts = []
    for name, cases in content.items():
        lines = ",\n".join(json.dumps(case, ensure_ascii=False, allow_nan=False) for case in cases)
        parts.append(f'"{name}": [\n{lines}\n]')
    text = "{\n" + ",\n".join(parts) + "\n}\n"
    (Path(__file__).parent / "metrics.json").write_text(text, encoding="utf8")


if __name__ == "__main__":
    main(*sys.argv[1:])
