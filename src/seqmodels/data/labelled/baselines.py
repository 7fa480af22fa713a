"""What simple models make of labelled texts."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqmodels.data.base import Split

Array = np.ndarray


def baselines(
    texts: dict[Split, list[Array]], labels: dict[Split, Array], symbols: int, classes: int
) -> dict[str, float]:
    """Validation cross-entropy of the classes' shares and of logistic regression on words.

    The regression reads which symbols a text has, and nothing of their order; its penalty is
    scikit-learn's usual one.

    Args:
        texts: (T) int64 each, by split; labels: (N) int64.
        symbols, classes: how many there are.
    """
    return against_shares(
        "logistic regression on words",
        _bags(texts["train"], symbols),
        _bags(texts["valid"], symbols),
        labels,
        classes,
    )


def against_shares(
    name: str, train: Any, valid: Any, labels: dict[Split, Array], classes: int
) -> dict[str, float]:
    """Validation cross-entropy of the classes' shares and of logistic regression.

    Args:
        name: of the regression.
        train, valid: its inputs, (N, F) each.
        labels: (N) int64, by split.
        classes: how many there are.
    """
    from sklearn.linear_model import LogisticRegression

    counts = np.bincount(labels["train"], minlength=classes)
    truth = labels["valid"]
    shares = -np.log(np.maximum(counts, 1) / counts.sum())[truth]
    model = LogisticRegression(max_iter=1000).fit(train, labels["train"])
    chosen = model.predict_log_proba(valid)[np.arange(len(truth)), truth]
    majority = 100 * float((truth == counts.argmax()).mean())
    right = 100 * float((model.predict(valid) == truth).mean())
    return {
        f"the classes' shares ({majority:.1f} % right)": float(shares.mean()),
        f"{name} ({right:.1f} % right)": float(-chosen.mean()),
    }


def _bags(texts: list[Array], symbols: int) -> Any:
    """(N, V): one where a text has the symbol."""
    from scipy.sparse import csr_matrix

    words = [np.unique(text) for text in texts]
    ends = np.cumsum([0, *map(len, words)])
    columns = np.concatenate(words)
    return csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(words), symbols))
