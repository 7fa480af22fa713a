"""Sets that cannot be had through `datasets`: clear messages, at once, and nothing left changed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from seqmodels.data import HubTextData
from seqmodels.data import hub_text as module

ROWS = ["the quick brown fox", "", "jumps over\nthe lazy dog", "end"] * 8
SMALL: dict[str, Any] = {"batch_size": 3, "seq_len": 5, "eval_batch_size": 2, "eval_seq_len": 4}


def write_json(path: Path, rows: list[str], column: str) -> None:
    path.write_text("".join(json.dumps({"label": 1, column: row}) + "\n" for row in rows))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., HubTextData]:
    def build(**settings: Any) -> HubTextData:
        return HubTextData(cache_dir=str(tmp_path / "cache"), **{**SMALL, **settings})

    return build


@pytest.mark.parametrize(
    ("files", "settings", "parts"),
    [
        (["train"], {"valid_split": "dev"}, ["no split 'dev'", "it has train"]),
        (["train", "dev"], {}, ["no split 'validation'", "data.valid_split=dev"]),
        (["train", "validation", "eval"], {}, ["no split 'test'", "data.test_split=eval"]),
        (["whole"], {}, ["no split 'train'", "it has whole", "data.train_split=NAME"]),
        (
            ["train"],
            {"text_column": "body"},
            ["no column 'body'", "label, text", "data.text_column"],
        ),
        (["train"], {"text_column": "label"}, ["row 0", "column 'label' holds int, expected text"]),
    ],
)
def test_wrong_names(
    tmp_path: Path,
    make: Callable[..., HubTextData],
    files: list[str],
    settings: dict[str, str],
    parts: list[str],
) -> None:
    for name in files:
        write_json(tmp_path / f"{name}.json", ROWS, "text")
    data = make(data_files={name: str(tmp_path / f"{name}.json") for name in files}, **settings)
    with pytest.raises(ValueError) as caught:
        data.setup()
    assert [part for part in parts if part not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("a.txt", b"caf\xe9" * 9, "'utf-8' codec can't decode byte 0xe9 in position 3"),
        ("a.json", b"{nonsense", "JSON"),
        ("a.parquet", b"nonsense", "arquet"),
        ("a.csv", b"", "No columns"),
        ("a.jsonl", b'{"text": null}\n' * 9, "holds NoneType, expected text"),
        ("a.jsonl", b'{"text": " "}\n' * 9, "holds no text"),
    ],
)
def test_bad_files(
    tmp_path: Path,
    make: Callable[..., HubTextData],
    capfd: pytest.CaptureFixture[str],
    name: str,
    content: bytes,
    part: str,
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        make(data_files=str(path)).setup()
    message = str(caught.value)
    assert str(path) in message
    assert part in message
    assert "\n" not in message
    assert capfd.readouterr().err == ""  # nothing but the message


@pytest.mark.parametrize(
    ("files", "part"),
    [
        ("nowhere.txt", "there is no file"),
        (["a.txt", "nowhere.txt"], "no file"),
        ("*.txt", "matches"),
    ],
)
def test_missing_files(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[..., HubTextData],
    files: Any,
    part: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if isinstance(files, list):
        (tmp_path / "a.txt").write_text("text\n")
    with pytest.raises(FileNotFoundError, match=part):
        make(data_files=files).setup()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "data.name=NAME on the hub, or data.data_files=FILES"),
        ({"data_files": []}, "data.name=NAME on the hub, or data.data_files=FILES"),
        ({"name": "json", "data_files": "x"}, "write data.format=json"),
        ({"name": "a/b", "format": "csv"}, "with data.name leave it null"),
        ({"data_files": "x.xml"}, "the format of x.xml is not clear"),
        ({"data_files": ["x.csv", "x.txt"]}, "the format of x.csv, x.txt is not clear"),
        ({"data_files": {"train": "x.csv", "test": ["y"]}}, "the format of x.csv, y is not clear"),
    ],
)
def test_settings_that_cannot_be(
    make: Callable[..., HubTextData], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings)


# ----------------------------------------------------------------------------------- the network


class Refusing(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = HTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def test_whoever_answers_can_be_reached(server: HTTPServer) -> None:
    assert module.reachable(f"http://127.0.0.1:{server.server_port}")


def test_a_closed_door_cannot(server: HTTPServer) -> None:
    port = server.server_port
    server.shutdown()
    server.server_close()
    assert not module.reachable(f"http://127.0.0.1:{port}")


def test_without_network_the_name_is_refused_at_once(
    make: Callable[..., HubTextData],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    import datasets

    before = (datasets.config.HF_HUB_OFFLINE, datasets.logging.get_verbosity())
    bars = datasets.are_progress_bars_disabled()
    monkeypatch.setattr(module, "reachable", lambda url: False)
    with pytest.raises(ValueError) as caught:
        make(name="somebody/some-set", config="small").setup()
    assert str(caught.value) == (
        "data.name=somebody/some-set: the hub cannot be reached, and there is no copy in the "
        "cache. Give local files with data.data_files=FILES"
    )
    assert capfd.readouterr().err == ""
    assert (datasets.config.HF_HUB_OFFLINE, datasets.logging.get_verbosity()) == before
    assert datasets.are_progress_bars_disabled() == bars


@pytest.mark.parametrize(
    ("error", "part"),
    [
        ("DatasetNotFoundError", "data.name=a/b: it does not exist. Give local files"),
        ("ConnectionError", "data.name=a/b: it does not exist. Give local files"),
        ("RuntimeError", "a/b (c) cannot be read: it does not exist"),
        ("ValueError", "a/b (c) cannot be read: it does not exist"),
    ],
)
def test_what_the_hub_says_is_handed_on(
    make: Callable[..., HubTextData], monkeypatch: pytest.MonkeyPatch, error: str, part: str
) -> None:
    import datasets

    kinds = {
        "RuntimeError": RuntimeError,
        "ValueError": ValueError,
        "ConnectionError": ConnectionError,
    }

    def refuse(*_: Any, **__: Any) -> None:
        raise kinds.get(error, datasets.exceptions.DatasetNotFoundError)("it does not exist\nmore")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    monkeypatch.setattr(module, "reachable", lambda url: True)
    with pytest.raises(ValueError) as caught:
        make(name="a/b", config="c").setup()
    assert part in str(caught.value)
