"""A server that answers with errors, slowly or too late while a sweep runs: all arrives once in the end."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from mlflow import MlflowClient

from sweeps.tracking.process import BackgroundSync
from tests.end_to_end import lab
from tests.end_to_end.lab import MlflowServer

Record = Any
LOSS = "train/loss"

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with lab.mlflow_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@dataclass
class Between:
    """Stands between a client and a server: ``how`` is ``well``, ``refuses``, ``slow`` or ``loses answers``."""

    server: MlflowServer
    how: str = "well"
    uri: str = ""
    spoilt: list[str] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        how = self.how
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if how != "well":
            self.spoilt.append(f"{handler.command} {handler.path}")
        if how == "refuses":
            self._reply(handler, 503, b"")
            return
        if how == "slow":
            time.sleep(1)
        code, content = self._passed_on(handler, body)
        # Carried out, and nobody is told.
        self._reply(handler, *((502, b"") if how == "loses answers" else (code, content)))

    def _passed_on(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        kept = {name: value for name, value in handler.headers.items() if name.lower() in ("content-type", "accept")}
        connection.request(handler.command, handler.path, body, kept)
        answer = connection.getresponse()
        return answer.status, answer.read()

    @staticmethod
    def _reply(handler: BaseHTTPRequestHandler, code: int, content: bytes) -> None:
        handler.send_response(code)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)


@contextmanager
def between(server: MlflowServer) -> Iterator[Between]:
    way = Between(server)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            way.answer(self)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET  # noqa: N815 - as http.server calls them

        def log_message(self, *_: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    way.uri = f"http://127.0.0.1:{listening.server_port}"
    try:
        yield way
    finally:
        listening.shutdown()
        listening.server_close()


def wait_until(what: str, condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.mark.parametrize("how", ["refuses", "loses answers", "slow"])
def test_what_a_server_spoils_on_the_way_arrives_once(record: Record, server: MlflowServer, how: str) -> None:
    record.sweep |= {"id": (how[0] * 32), "name": how}
    record.sweep["spec"]["tracking"]["experiment"] = how
    client = MlflowClient(server.uri)

    def points() -> dict[str, list[tuple[int, float]]]:
        experiment = client.get_experiment_by_name(how)
        runs = client.search_runs([experiment.experiment_id]) if experiment else []
        named = [run.data.tags["sweep.trial_id"] for run in runs]
        assert len(set(named)) == len(named), named
        return {
            name: sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, LOSS))
            for name, run in zip(named, runs, strict=True)
            if name != "parent"
        }

    with between(server) as way:
        sync = record.sync(way.uri)
        sync.experiment = how
        background = BackgroundSync(sync, period=0.05)
        first = record.begin("t000-s0")
        first.epoch(1, {LOSS: 3.0})
        wait_until("a run is made", lambda: points().get("t000-s0"))
        way.how = how
        first.epoch(2, {LOSS: 2.0})
        second = record.begin("t001-s0")
        second.epoch(1, {LOSS: 5.0})
        if how == "slow":
            wait_until("all is there", lambda: points().get("t001-s0"))
            assert background.error is None
        else:
            wait_until("it is told", lambda: background.error)
            code = 503 if how == "refuses" else 502
            assert background.error == f"{way.uri.removeprefix('http://')} answers with error {code}"
        assert way.spoilt
        way.how = "well"
        first.end("finished", 2)
        second.epoch(2, {LOSS: 4.0})
        second.end("finished", 2)
        assert background.close()
        assert background.error is None
    assert points() == {"t000-s0": [(1, 3.0), (2, 2.0)], "t001-s0": [(1, 5.0), (2, 4.0)]}
