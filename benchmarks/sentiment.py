"""Reviews, for or against: both contexts, the left one alone, and none, in cross-validation.

    python benchmarks/sentiment.py FOLDER

FOLDER holds NAME.pos and NAME.neg. Each model is trained on each of ten parts' complements through
`seqmodels train`, and tested with the checkpoint that was best on a validation tenth of these. The
bag of embeddings is the mean of a text's vectors and a linear head, trained in the same way here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from seqmodels.cli import main as seqmodels
from seqmodels.data.labelled import TextClassification


def trained(experiment: str, folder: str, fold: int, epochs: int, run: Path) -> float:
    """Test accuracy of one run."""
    status = seqmodels([
        "train", f"experiment={experiment}", f"data.path={folder}", f"data.fold={fold}",
        f"seed={fold}", f"trainer.max_epochs={epochs}", "trainer.enable_progress_bar=false",
        f"run_dir={run}", "num_threads=1", "callbacks=none", "logger=none",
        "+callbacks.checkpoint._target_=seqmodels.training.callbacks.checkpoint.Checkpoint",
    ])  # fmt: skip
    if status != 0:
        raise SystemExit(f"{experiment}, fold {fold}: exit status {status}")
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return float(record["metrics"]["test/accuracy"])


def bag(folder: str, fold: int, epochs: int) -> float:
    """Test accuracy of the mean of embeddings of 100 numbers, at the best validation epoch."""
    data = TextClassification(folder, fold=fold, seed=fold)
    data.setup()
    torch.manual_seed(fold)
    sizes = data.sizes()
    embedding = nn.EmbeddingBag(sizes["num_inputs"], 100, mode="mean")
    model = nn.ModuleList([embedding, nn.Dropout(0.5), nn.Linear(100, sizes["num_outputs"])])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.002, weight_decay=0.01)

    def scores(batch: object) -> tuple[torch.Tensor, torch.Tensor]:
        lengths = batch.lengths  # type: ignore[attr-defined]
        keep = torch.arange(batch.inputs.shape[1]) < lengths[:, None]  # type: ignore[attr-defined]
        starts = torch.cat((lengths.new_zeros(1), lengths.cumsum(0)[:-1]))
        hidden = embedding(batch.inputs[keep], starts)  # type: ignore[attr-defined]
        truth = batch.targets[torch.arange(len(lengths)), lengths - 1]  # type: ignore[attr-defined]
        return model[2](model[1](hidden)), truth

    def accuracy(loader: object) -> float:
        model.eval()
        with torch.no_grad():
            right = [(o.argmax(1) == t) for o, t in map(scores, loader)]  # type: ignore[call-overload]
        model.train()
        return float(torch.cat(right).float().mean())

    loader, best = data.train_loader(), (0.0, 0.0)
    for _ in range(epochs):
        for batch in loader:
            outputs, truth = scores(batch)
            optimizer.zero_grad()
            nn.functional.cross_entropy(outputs, truth).backward()
            optimizer.step()
        valid = accuracy(data.valid_loader())
        if valid > best[0]:
            best = (valid, accuracy(data.test_loader()))
    return best[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--folds", type=int, default=10, help="of the ten, how many are run")
    parser.add_argument("--epochs", type=int, default=4)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {}
    for fold in range(given.folds):
        with tempfile.TemporaryDirectory() as folder:
            for experiment in ("sentiment_bilstm", "sentiment_lstm"):
                run = Path(folder) / experiment
                start = time.perf_counter()
                value = trained(experiment, given.folder, fold, given.epochs, run)
                found.setdefault(experiment, []).append(value)
                print(f"fold {fold} {experiment} {value:.4f} {time.perf_counter() - start:.0f} s")
        found.setdefault("bag of embeddings", []).append(bag(given.folder, fold, 3 * given.epochs))
        print(f"fold {fold} bag of embeddings {found['bag of embeddings'][-1]:.4f}")
        sys.stdout.flush()
    print("| model | mean accuracy | standard error | folds |\n|---|---|---|---|")
    for name, values in found.items():
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
        each = ", ".join(f"{100 * v:.1f}" for v in values)
        print(f"| {name} | {100 * statistics.mean(values):.2f} % | {100 * error:.2f} % | {each} |")


if __name__ == "__main__":
    main()
