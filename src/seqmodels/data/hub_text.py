"""Text sets of the Hugging Face hub, or local files in their formats, through `datasets`."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from seqmodels.data.base import SPLITS
from seqmodels.data.sources import Source, has_wildcard, matching_paths
from seqmodels.data.text import TextStreams
from seqmodels.data.vocabulary import Level

Format = Literal["parquet", "json", "csv", "text"]
ENDINGS: dict[str, Format] = {
    ".parquet": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".txt": "text",
}
USUAL_SPLITS = {"train": "train", "valid": "validation", "test": "test"}
OTHER_NAMES = {"valid": ("valid", "val", "dev", "validation"), "test": ("test", "eval")}
PROBE_SECONDS = 5.0


class HubTextData(TextStreams):
    """Any data set with a column of text: its rows, each ended by a line break, are one text.

    Args:
        name: on the hub, such as "Salesforce/wikitext", or a folder that looks like a set of the
            hub; None: the local `data_files`.
        config: the set's configuration, such as "wikitext-2-raw-v1".
        data_files: local files, or files of the set `name`: a path or pattern, a list of them, or
            one or several for each split ({train: …, validation: …}).
        format: of local data_files; None: what their ending says.
        text_column: the column to read.
        train_split, valid_split, test_split: names of the set's splits. Where the set has only the
            first, it is cut by `split`; where only validation is missing, that is cut from the
            training split, by the first two fractions of `split`.
        cache_dir: where `datasets` keeps what it read; None: its own place.
        others: see `TextStreams`.

    The digest is that of the text that was read.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        config: str | None = None,
        data_files: str | list[str] | dict[str, Any] | None = None,
        format: Format | None = None,
        text_column: str = "text",
        train_split: str = "train",
        valid_split: str = "validation",
        test_split: str = "test",
        cache_dir: str | None = None,
        level: Level = "char",
        split: tuple[float, float, float] = (0.9, 0.05, 0.05),
        batch_size: int = 32,
        seq_len: int = 64,
        eval_batch_size: int = 16,
        eval_seq_len: int | None = 256,
        random_seq_len: bool = False,
        seed: int = 0,
        drop_remainder: bool = False,
        max_vocab: int | None = None,
        min_count: int = 1,
        lowercase: bool = False,
        ngrams: int = 5,
    ) -> None:
        super().__init__(
            level=level,
            split=split,
            batch_size=batch_size,
            seq_len=seq_len,
            eval_batch_size=eval_batch_size,
            eval_seq_len=eval_seq_len,
            random_seq_len=random_seq_len,
            seed=seed,
            drop_remainder=drop_remainder,
            max_vocab=max_vocab,
            min_count=min_count,
            lowercase=lowercase,
            ngrams=ngrams,
        )
        if name is None and not data_files:
            raise ValueError(
                "data=hub_text needs data.name=NAME on the hub, or data.data_files=FILES"
            )
        if name in get_args(Format):
            raise ValueError(f"data.name={name} is a format: write data.format={name}")
        if name is not None and format is not None:
            raise ValueError("data.format is for local data_files; with data.name leave it null")
        self.name = name
        self.config = config
        self.data_files = data_files
        self.format: Format | None = format
        if name is None:
            self.format = format or format_of(_paths(data_files))
        self.text_column = text_column
        names = (train_split, valid_split, test_split)
        self.split_names = dict(zip(SPLITS, names, strict=True))
        self.cache_dir = cache_dir

    def read(self) -> Source:
        loaded = self._load()
        names = self._present(list(map(str, loaded)))
        texts = {split: self._text(loaded[name], name) for split, name in names.items()}
        digest = hashlib.sha256()
        for text in texts.values():
            digest.update(text.encode("utf-8"))
        places = {split: f"{self._shown()}, split {name}," for split, name in names.items()}
        if "valid" not in texts and self.split[1] > 0:
            whole = "train+valid" if "test" in texts else "all"
            texts = {whole if split == "train" else split: text for split, text in texts.items()}
            places[whole] = places["train"]
        files = [self._shown()] if self.name is not None else _paths(self.data_files)
        return Source(texts, places, files, digest.hexdigest())

    def _shown(self) -> str:
        if self.name is None:
            return "data.data_files=" + ",".join(_paths(self.data_files))
        return self.name if self.config is None else f"{self.name} ({self.config})"

    def _present(self, available: list[str]) -> dict[str, str]:
        """Which of the wanted splits the set has. A missing one is refused where it looks wrong."""
        found: dict[str, str] = {}
        for split, name in self.split_names.items():
            if name in available:
                found[split] = name
                continue
            others = [other for other in OTHER_NAMES.get(split, ()) if other in available]
            if split == "train" or name != USUAL_SPLITS[split] or others:
                choice = others[0] if others else "NAME"
                raise ValueError(
                    f"{self._shown()} has no split {name!r}; it has {', '.join(available)}: "
                    f"choose with data.{split}_split={choice}"
                )
        return found

    def _text(self, table: Any, split: str) -> str:
        if self.text_column not in table.column_names:
            raise ValueError(
                f"{self._shown()} has no column {self.text_column!r}; it has "
                f"{', '.join(table.column_names)}: choose with data.text_column=NAME"
            )
        lines = []
        for number, row in enumerate(table[self.text_column]):
            if not isinstance(row, str):
                raise ValueError(
                    f"{self._shown()}, split {split}, row {number}: column {self.text_column!r} "
                    f"holds {type(row).__name__}, expected text"
                )
            lines.append(row if row.endswith("\n") else row + "\n")
        text = "".join(lines)
        if not text.strip():
            raise ValueError(f"{self._shown()}: the split {split} holds no text")
        return text

    def _load(self) -> Any:
        if self.name is None:
            refuse_missing(_paths(self.data_files))
        return load_set(
            self.name if self.name is not None else str(self.format),
            self.config,
            data_files=self.data_files,
            cache_dir=self.cache_dir,
            local=self.name is None or Path(self.name).is_dir(),
            shown=self._shown(),
            advice="Give local files with data.data_files=FILES",
        )


def load_set(
    name: str,
    config: str | None = None,
    *,
    data_files: str | list[str] | dict[str, Any] | None = None,
    cache_dir: str | None = None,
    local: bool = False,
    shown: str,
    advice: str,
) -> Any:
    """`datasets.load_dataset`, quiet, whose troubles are said in one line.

    Args:
        name, config, data_files, cache_dir: its own.
        local: nothing is asked of the hub.
        shown: what to call the set when something is wrong with it.
        advice: said where the hub cannot be reached or does not know the name.

    Raises:
        ValueError: it cannot be had.
        OSError: the cache cannot be written.
    """
    import datasets  # takes seconds, and only this kind of data needs it

    # Or it would try again for half a minute before it gives up.
    offline = not local and not reachable(datasets.config.HF_ENDPOINT)
    with _quiet(offline=offline):
        try:
            return datasets.load_dataset(name, config, data_files=data_files, cache_dir=cache_dir)
        except (ConnectionError, datasets.exceptions.DatasetNotFoundError) as error:
            why = (
                "the hub cannot be reached, and there is no copy in the cache"
                if offline
                else _first_line(error)
            )
            raise ValueError(f"data.name={name}: {why}. {advice}") from error
        except OSError:
            raise  # the place of the cache: it names its file
        except Exception as error:
            # Of many kinds: of the hub, of HTTP, of Arrow, of a set that is a script.
            raise ValueError(f"{shown} cannot be read: {_first_line(error)}") from error


@contextlib.contextmanager
def _quiet(*, offline: bool) -> Iterator[None]:
    """Neither progress bars nor logged errors of `datasets`: what goes wrong is raised."""
    import datasets

    bars = not datasets.are_progress_bars_disabled()
    verbosity = datasets.logging.get_verbosity()
    was_offline = datasets.config.HF_HUB_OFFLINE
    if bars:
        datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    datasets.config.HF_HUB_OFFLINE = was_offline or offline
    try:
        yield
    finally:
        if bars:
            datasets.enable_progress_bars()
        datasets.logging.set_verbosity(verbosity)
        datasets.config.HF_HUB_OFFLINE = was_offline


def reachable(url: str) -> bool:
    """Whether anything answers there, whatever it says."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS
        ):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except urllib.error.URLError as error:
        # Other libraries may know certificates that Python's own does not.
        return isinstance(error.reason, ssl.SSLError)
    except OSError:
        return False


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[0] if lines else type(cause).__name__


def _paths(data_files: str | Sequence[Any] | Mapping[str, Any] | None) -> list[str]:
    if data_files is None:
        return []
    if isinstance(data_files, str):
        return [data_files]
    items = data_files.values() if isinstance(data_files, Mapping) else data_files
    return [path for item in items for path in _paths(item)]


def refuse_missing(paths: Sequence[str]) -> None:
    """Raises FileNotFoundError for the first local path or pattern that finds nothing."""
    for path in paths:
        if "://" in path or Path(path).exists():
            continue
        if not has_wildcard(path):
            raise FileNotFoundError(f"data.data_files: there is no file {path}")
        if not matching_paths(path):
            raise FileNotFoundError(f"data.data_files: no file matches {path}")


def format_of(paths: Sequence[str]) -> Format:
    """The format that the paths' common ending stands for; `.gz` after it does not matter."""
    endings = {Path(path.removesuffix(".gz")).suffix for path in paths}
    formats = {ENDINGS[ending] for ending in endings if ending in ENDINGS}
    if len(formats) != 1 or not endings <= ENDINGS.keys():
        raise ValueError(
            f"data.data_files: the format of {', '.join(paths)} is not clear; use files of one "
            f"kind ({', '.join(ENDINGS)}) or say it with data.format={'|'.join(get_args(Format))}"
        )
    return formats.pop()
