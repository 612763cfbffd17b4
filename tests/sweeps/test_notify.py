"""Notifications: sent to real servers on this machine, without secrets in what is recorded or printed."""

from __future__ import annotations

import base64
import io
import json
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from linearizer_core.experiment.journal import Journal, TrialIdentity
from sweeps.execution.cluster import Capacity, Node
from sweeps.execution.in_process import InProcess
from sweeps.execution.task import Task
from sweeps.launch import launch
from sweeps.notify import event_of, message_of, notify
from sweeps.result import LaunchResult
from sweeps.spec.model import Sweep
from tests.sweeps.offline import offline

FD = "quality/classifier_fd_collapsed"
SECRET = "s3cret-token"

ToSweep = Callable[..., Sweep]


def ended(sweep: Sweep, state: str = "finished", reason: str | None = None) -> LaunchResult:
    best = [TrialIdentity("demo", "t003-s0", "search", None, 3, "0" * 12, 0, {"train.lr": 0.003})]
    trials = {"finished": 8, "failed": 2}
    return LaunchResult(sweep, state, reason, best if state == "finished" else [], 8.703, trials, 0, "t001-s0: gone")


@contextmanager
def listening(server: socketserver.TCPServer) -> Iterator[int]:
    """A server in a thread; its port."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def web(status: int = 200) -> Iterator[tuple[int, list[tuple[dict[str, str], Any]]]]:
    """A web server that keeps what is posted to it, and answers with a status."""
    posted: list[tuple[dict[str, str], Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted.append((dict(self.headers), json.loads(body)))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            """Nothing."""

    with listening(HTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield port, posted


class Smtp(socketserver.StreamRequestHandler):
    """As much of RFC 5321 as a letter needs."""

    def handle(self) -> None:
        letters: list[dict[str, Any]] = self.server.letters  # type: ignore[attr-defined]
        letter: dict[str, Any] = {"to": []}
        self.answer("220 here")
        while line := self.rfile.readline().decode().rstrip("\r\n"):
            verb = line.split(":")[0].upper().split(" ")[0]
            if verb == "EHLO":
                self.answer("250 here")
            elif verb == "MAIL":
                letter["from"] = line.partition("<")[2].partition(">")[0]
                self.answer("250 ok")
            elif verb == "RCPT":
                letter["to"].append(line.partition("<")[2].partition(">")[0])
                self.answer("250 ok")
            elif verb == "DATA":
                self.answer("354 go on")
                lines = []
                while (text := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                    lines.append(text)
                letter["text"] = "\n".join(lines)
                letters.append(letter)
                self.answer("250 taken")
            else:
                self.answer("221 bye")
                return

    def answer(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


def test_a_webhook_gets_json_with_a_token_from_the_environment(sweep: ToSweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_TOKEN", SECRET)
    with web() as (port, posted):
        hook = {"url": f"http://127.0.0.1:{port}/sweeps", "token_variable": "HOOK_TOKEN"}
        made = sweep({"notify": {"webhook": hook}})
        assert notify(ended(made)) == []
    ((headers, body),) = posted
    assert headers["Authorization"] == f"Bearer {SECRET}"
    assert headers["Content-Type"] == "application/json"
    assert (body["event"], body["sweep"], body["state"]) == ("end", "demo", "finished")
    assert body["trials"] == {"finished": 8, "failed": 2}
    assert body["best"] == {"configuration": "t003", "objective": FD, "value": 8.703}
    assert body["text"] == f"demo finished: 2 failed, 8 finished; best t003, {FD} = 8.703"
    assert SECRET not in json.dumps(made.resolved)


@pytest.mark.parametrize("status", [404, 500])
def test_what_cannot_be_told_is_one_line_without_a_secret(
    sweep: ToSweep, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    with web(status) as (port, posted):
        monkeypatch.setenv("HOOK", f"http://127.0.0.1:{port}/{SECRET}")
        made = sweep(
            {"notify": {"webhook": {"url_variable": "HOOK"}, "command": [sys.executable, "-c", "raise SystemExit(3)"]}}
        )
        warnings = notify(ended(made))
    assert len(posted) == 1
    assert warnings == [
        "the notification by command failed: the command exited with 3",
        f"the notification by webhook failed: the server answered {status}",
    ]
    assert (
        notify(ended(made))[1]
        == "the notification by webhook failed: the server cannot be reached (ConnectionRefusedError)"
    )


def test_a_letter_is_sent(sweep: ToSweep) -> None:
    server = socketserver.TCPServer(("127.0.0.1", 0), Smtp)
    server.letters = letters = []  # type: ignore[attr-defined]
    with listening(server) as port:
        email = {
            "to": ["a@example.org", "b@example.org"],
            "sender": "gpu@example.org",
            "host": "127.0.0.1",
            "port": port,
        }
        made = sweep({"notify": {"email": {**email, "security": "none"}}})
        assert notify(ended(made, "interrupted", "budget.hours = 2 spent")) == []
        # A server without encryption is refused where that is asked for.
        encrypted = sweep({"notify": {"email": email}})
        assert notify(ended(encrypted)) == ["the notification by e-mail failed: SMTPNotSupportedError"]
    (letter,) = letters
    assert (letter["from"], letter["to"]) == ("gpu@example.org", ["a@example.org", "b@example.org"])
    assert "Subject: linsweep: demo interrupted" in letter["text"]
    text = letter["text"].partition("\n\n")[2]
    if "Content-Transfer-Encoding: base64" in letter["text"]:
        text = base64.b64decode(text).decode()
    assert text.startswith("demo interrupted (budget.hours = 2 spent): 2 failed, 8 finished")


def test_a_command_gets_the_message_on_its_standard_input(sweep: ToSweep, tmp_path: Path) -> None:
    target = tmp_path / "told; touch not-a-shell"
    program = f"import sys, pathlib; pathlib.Path({str(target)!r}).write_text(sys.stdin.read())"
    made = sweep({"notify": {"command": [sys.executable, "-c", program], "at": ["failure"]}})
    assert notify(ended(made)) == []
    assert not target.exists()
    failed = ended(made, "failed")
    assert notify(failed) == []
    assert json.loads(target.read_text()) == json.loads(json.dumps(message_of(failed, "failure")))


@pytest.mark.parametrize(
    ("state", "reason", "event"),
    [
        ("finished", None, "end"),
        ("failed", None, "failure"),
        ("interrupted", "budget.gpu_hours = 3 spent", "budget"),
        ("interrupted", "linsweep stop", None),
    ],
)
def test_events(sweep: ToSweep, state: str, reason: str | None, event: str | None) -> None:
    assert event_of(ended(sweep(), state, reason)) == event


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({"webhook": {}}, "notify.webhook: give exactly one of url and"),
        ({"webhook": {"url": "http://example.org"}}, "notify.webhook.url: must begin with https://"),
        (
            {"webhook": {"url": "https://me:word@example.org"}},
            "notify.webhook.url: must begin with https:// and contain no",
        ),
        (
            {"webhook": {"url_variable": "NOBODY_SET_IT"}},
            "notify.webhook.url_variable: environment variable NOBODY_SET_IT is not set",
        ),
        ({"email": {"to": [], "sender": "a", "host": "b"}}, "notify.email.to: must have at least 1 item"),
        ({"command": "cat"}, "notify.command: must be a list such as [notify-send, linsweep], got 'cat'"),
        ({"at": "end"}, "notify.at: must be a list, got 'end'"),
        ({"at": ["start"]}, "notify.at[0]: must be 'end', 'failure' or 'budget'"),
    ],
)
def test_wrong_ways_to_tell_are_refused(refusal: Callable[..., list[str]], edits: dict[str, Any], said: str) -> None:
    (problem,) = refusal({"notify": edits})
    assert problem.startswith(said)


def test_a_launch_tells_of_its_end(sweep: ToSweep, tmp_path: Path) -> None:
    """A whole launch in this process: its trial writes its journal, and the end is told once."""
    target = tmp_path / "told"
    program = f"import sys, pathlib; pathlib.Path({str(target)!r}).open('a').write(sys.stdin.read() + chr(10))"
    edits = {
        "controls": [],
        "search/stop_early": None,
        "search/trials": 1,
        "evaluate/quality": ["swd"],
        "search/objective": {"quality/swd_collapsed": "min"},
        "storage": str(tmp_path / "runs"),
        "notify": {"command": [sys.executable, "-c", program]},
    }

    def execute(task: Task) -> Iterator[dict[str, Any]]:
        journal = Journal(task.files.journal)
        journal.trial(task.identity, task.config, task.provenance)
        journal.summary({"quality/swd_collapsed": 0.5})
        journal.end("finished", 9)
        yield {"epoch": 9, "state": "finished", "quality/swd_collapsed": 0.5}

    with offline():
        launch(
            sweep(edits), Console(file=io.StringIO()), InProcess(Capacity((Node(1, 0),), "here"), execute), fresh=True
        )
    (told,) = map(json.loads, target.read_text().splitlines())
    assert (told["event"], told["trials"], told["best"]["configuration"]) == ("end", {"finished": 1}, "t000")
