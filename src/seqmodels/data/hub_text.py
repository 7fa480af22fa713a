"""Text sets of the Hugging Face hub, or local files in their formats, through `datasets`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqmodels.data.base import SPLITS
from seqmodels.data.sources import Source
from seqmodels.data.text import TextStreams
from seqmodels.data.vocabulary import Level

FORMATS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".csv": "csv", ".txt": "text"}


class HubTextData(TextStreams):
    """Any data set with a column of text: its rows, a line break between them, are one text.

    Args:
        name: on the hub, such as "Salesforce/wikitext"; or a loader's name ("parquet", "json",
            "csv", "text") for `data_files`; None: the loader that the files' ending says.
        config: the set's configuration, such as "wikitext-2-raw-v1".
        data_files: local files instead of the hub: a path or pattern, a list of them, or one for
            each split ({train: …, validation: …}).
        text_column: the column to read.
        train_split, valid_split, test_split: names of the set's splits. Where the set has only the
            first, it is cut by `split`.
        cache_dir: where `datasets` keeps what it read; None: its own place.
        others: see `TextStreams`.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        config: str | None = None,
        data_files: str | list[str] | dict[str, Any] | None = None,
        text_column: str = "text",
        train_split: str = "train",
        valid_split: str = "validation",
        test_split: str = "test",
        cache_dir: str | None = None,
        level: Level = "char",
        split: Sequence[float] = (0.9, 0.05, 0.05),
        batch_size: int = 64,
        seq_len: int = 64,
        eval_batch_size: int = 16,
        eval_seq_len: int | None = 256,
        drop_remainder: bool = False,
        max_vocab: int | None = None,
        min_count: int = 1,
        lowercase: bool = False,
    ) -> None:
        super().__init__(
            level=level,
            split=split,
            batch_size=batch_size,
            seq_len=seq_len,
            eval_batch_size=eval_batch_size,
            eval_seq_len=eval_seq_len,
            drop_remainder=drop_remainder,
            max_vocab=max_vocab,
            min_count=min_count,
            lowercase=lowercase,
        )
        if name is None and data_files is None:
            raise ValueError("data=hub_text needs data.name=NAME on the hub, or data.data_files=FILES")
        self.name = name if name is not None else _loader_for(data_files)
        self.config = config
        self.data_files = data_files
        self.text_column = text_column
        self.split_names = dict(zip(SPLITS, (train_split, valid_split, test_split), strict=True))
        self.cache_dir = cache_dir

    def read(self) -> Source:
        loaded = self._load()
        train = self.split_names["train"]
        if train not in loaded:
            raise ValueError(
                f"{self.name} has no split {train!r}; it has {', '.join(map(str, loaded))}: "
                "choose with data.train_split=NAME"
            )
        texts = {s: self._text(loaded[n], n) for s, n in self.split_names.items() if n in loaded}
        if list(texts) == ["train"]:
            texts = {"all": texts["train"]}
        digest = hashlib.sha256()
        for text in texts.values():
            digest.update(text.encode("utf-8"))
        shown = self.name if self.config is None else f"{self.name} ({self.config})"
        return Source(texts, [shown], digest.hexdigest())

    def _text(self, table: Any, split: str) -> str:
        if self.text_column not in table.column_names:
            raise ValueError(
                f"{self.name} has no column {self.text_column!r}; it has "
                f"{', '.join(table.column_names)}: choose with data.text_column=NAME"
            )
        rows = table[self.text_column]
        lines = []
        for number, row in enumerate(rows):
            if not isinstance(row, str):
                raise ValueError(
                    f"{self.name}, split {split}, row {number}: column {self.text_column!r} holds "
                    f"{type(row).__name__}, expected text"
                )
            lines.append(row if row.endswith("\n") else row + "\n")
        text = "".join(lines)
        if not text.strip():
            raise ValueError(f"{self.name}: the split {split} holds no text")
        return text

    def _load(self) -> Any:
        import datasets  # takes a second, and only this kind of data needs it

        shown = self.data_files if self.data_files is not None else self.name
        if self.data_files is not None:
            _refuse_missing(self.data_files)
        showed_bars = datasets.utils.logging.is_progress_bar_enabled()
        datasets.utils.logging.disable_progress_bar()
        try:
            return datasets.load_dataset(
                self.name, self.config, data_files=self.data_files, cache_dir=self.cache_dir
            )
        except (ConnectionError, datasets.exceptions.DatasetNotFoundError) as error:
            raise ValueError(
                f"data.name={self.name}: not found, or the hub cannot be reached ({_first(error)}). "
                "Give local copies with data.data_files=FILES"
            ) from error
        except datasets.exceptions.DatasetsError as error:
            raise ValueError(f"{shown} cannot be read as {self.name}: {_first(error)}") from error
        finally:
            if showed_bars:
                datasets.utils.logging.enable_progress_bar()


def _first(error: BaseException) -> str:
    cause = error.__cause__ or error
    return (str(cause).splitlines() or [type(cause).__name__])[0]


def _paths(data_files: str | Sequence[Any] | Mapping[str, Any]) -> list[str]:
    if isinstance(data_files, str):
        return [data_files]
    items = data_files.values() if isinstance(data_files, Mapping) else data_files
    return [path for item in items for path in _paths(item)]


def _refuse_missing(data_files: str | Sequence[Any] | Mapping[str, Any]) -> None:
    for path in _paths(data_files):
        if not any(sign in path for sign in "*?[:") and not Path(path).exists():
            raise FileNotFoundError(f"data.data_files: there is no file {path}")


def _loader_for(data_files: str | Sequence[Any] | Mapping[str, Any] | None) -> str:
    paths = _paths(data_files or [])
    endings = {Path(path.removesuffix(".gz")).suffix for path in paths}
    if len(endings) != 1 or (ending := endings.pop()) not in FORMATS:
        raise ValueError(
            f"data.data_files: the format of {', '.join(paths) or 'no file'} is not clear; use files "
            f"of one kind ({', '.join(FORMATS)}) or say it with data.name=parquet|json|csv|text"
        )
    return FORMATS[ending]
