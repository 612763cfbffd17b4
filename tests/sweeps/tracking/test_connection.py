"""What can be wrong with a server, a database or an experiment is one line, and the sweep goes on."""

from __future__ import annotations

import sqlite3
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from analysis.record.mlflow_errors import explain
from sweeps.api import tracking as api
from sweeps.spec.validation import InputError
from sweeps.tracking.connection import ExperimentError
from sweeps.tracking.process import BackgroundSync

Record = Any
Store = Any


def write(record: Record, trial: str = "t000-s0") -> None:
    journal = record.begin(trial)
    journal.epoch(1, {"train/loss": 2.0})
    journal.end("finished", 1)


def said(record: Record, uri: str) -> str:
    """Why nothing can be sent there, in one line; the journals are as they were."""
    before = {path: path.read_bytes() for path in record.paths.journals.iterdir()}
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is, its words are looked at
        record.sync(uri).send()
    assert before == {path: path.read_bytes() for path in record.paths.journals.iterdir()}
    text = explain(caught.value, uri)
    assert "\n" not in text
    return text


def test_an_experiment_in_the_trash_is_told_with_the_way_out(record: Record, store: Store) -> None:
    write(record)
    sync = record.sync(store.uri)
    sync.send()
    store.client.delete_experiment(sync.connect().experiment)
    with pytest.raises(ExperimentError, match=r"'demo' is in MLflow's trash; .* restore --experiment-id 1\)"):
        record.sync(store.uri).send()
    # A connection that was there before finds out as well.
    write(record, "t001-s0")
    for _ in range(2):
        with pytest.raises(Exception, match=r"active|trash"):
            sync.send()
    store.client.restore_experiment("1")
    record.sync(store.uri).send()
    assert set(store.runs()) == {"parent", "t000-s0", "t001-s0"}


def test_an_experiment_that_was_deleted_for_good_is_made_again(record: Record, store: Store) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the command's module imports
        from mlflow.cli import gc
    write(record)
    sync = record.sync(store.uri)
    sync.send()
    for how in ("a connection that was there before", "another one"):
        experiment = sync.connect().experiment
        store.client.delete_experiment(experiment)
        uris = ["--backend-store-uri", store.uri, "--tracking-uri", store.uri]
        made = CliRunner().invoke(gc, [*uris, "--experiment-ids", experiment])
        assert made.exit_code == 0, made.output
        assert store.client.get_experiment_by_name("demo") is None
        if how == "another one":
            sync = record.sync(store.uri)
        else:  # which finds out, and has all of it at its next try
            write(record, "t001-s0")
            with pytest.raises(Exception, match=f"No Experiment with id={experiment} exists|not found"):
                sync.send()
        assert sync.send() > 0
        assert set(store.runs()) == {"parent", "t000-s0", "t001-s0"}
        assert store.history("t000-s0", "train/loss") == [(1, 2.0)]


def test_a_renamed_experiment_is_gone_on_with(record: Record, store: Store) -> None:
    write(record)
    sync = record.sync(store.uri)
    sync.send()
    experiment = sync.connect().experiment
    store.client.rename_experiment(experiment, "ours")
    write(record, "t001-s0")
    record.sync(store.uri).send()
    assert store.client.get_experiment_by_name("demo") is None
    trials = [run.data.tags["sweep.trial_id"] for run in store.client.search_runs([experiment])]
    assert sorted(trials) == ["parent", "t000-s0", "t001-s0"]


def test_an_experiment_of_another_name_is_a_wish_for_that_one(record: Record, store: Store) -> None:
    write(record)
    record.sync(store.uri).send()
    sync = record.sync(store.uri)
    sync.experiment = "other"
    sync.send()
    assert store.client.get_experiment_by_name("other") is not None


def test_a_database_of_another_version_is_told_with_the_remedy(record: Record, store: Store) -> None:
    with closing(sqlite3.connect(store.path)) as database:
        database.execute("UPDATE alembic_version SET version_num = '0123456789ab'")
        database.commit()
    write(record)
    assert f"-m mlflow db upgrade {store.uri} " in said(record, store.uri)
    assert "(its schema is 0123456789ab, the installed MLflow has " in said(record, store.uri)


def test_a_store_that_becomes_read_only(record: Record, store: Store) -> None:
    write(record)
    record.sync(store.uri).send()
    write(record, "t001-s0")
    uri = f"sqlite:///file:{store.path}?mode=ro&uri=true"
    assert said(record, uri) == f"{uri} cannot be written: it is read-only"


@contextmanager
def answering(code: int, seconds: float) -> Iterator[str]:
    """A server that answers everything with a code after some seconds."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(seconds)
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - as http.server calls it

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_server_that_is_broken(record: Record) -> None:
    write(record)
    with answering(503, 0) as uri:
        assert said(record, uri) == f"{uri.removeprefix('http://')} answers with error 503"


def test_a_server_that_does_not_answer_is_given_up_after_seconds(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    write(record)
    begun = time.monotonic()
    with answering(200, 6) as uri:
        assert said(record, uri) == f"{uri.removeprefix('http://')} does not answer"
        assert time.monotonic() - begun < 5


def test_the_sweep_goes_on_beside_a_broken_server(record: Record) -> None:
    write(record)
    with answering(503, 0) as uri:
        background = BackgroundSync(record.sync(uri), period=0.05)
        assert background.close() is False
    assert background.error == f"{uri.removeprefix('http://')} answers with error 503"
    assert background.sync.lack().endswith(" of 1 trial")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("sqlite:///folder", "unable to open database file"),
        ("postgresql://me:secret@127.0.0.1:1/x", "connection failed: .* Connection refused"),
    ],
)
def test_a_database_that_cannot_be_opened_is_given_up_at_once(
    record: Record,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    uri: str,
    said: str,
) -> None:
    """MLflow would try again fifteen times, in a minute and a half, and print the same each time."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("mlflow.MlflowClient", None)  # which is not asked
    write(record)
    with pytest.raises(InputError, match=said) as caught:
        api.sync("demo", storage=record.paths.storage, to=uri)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("uri", ["foo", "ftp://x", "file:///x", ""])
def test_where_nothing_can_be_sent_to_is_refused(record: Record, uri: str) -> None:
    write(record)
    with pytest.raises(InputError, match=f"--to: must begin with one of http://, .*, got '{uri}'"):
        api.sync("demo", storage=record.paths.storage, to=uri)


def test_a_trial_that_there_is_not_has_no_model(record: Record) -> None:
    write(record)
    with pytest.raises(InputError, match=r"demo/t999-s0: no trial t999-s0 in .*demo; did you mean t000-s0"):
        api.promote("demo/t999-s0", storage=record.paths.storage)


@pytest.mark.parametrize("body", [b"", b'{"a": 1}', b"<html>hello</html>", b"[]"])
def test_a_server_of_another_kind_is_told(record: Record, body: bytes) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    write(record)
    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(InputError, match="answers, but not as MLflow does: the server or the path is wrong"):
            api.sync("demo", storage=record.paths.storage, to=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
