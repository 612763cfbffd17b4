"""Notifications that a sweep has ended, failed or spent its budget: by a command, a webhook or e-mail."""

from __future__ import annotations

import json
import os
import smtplib
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from typing import Any

from sweeps.result import LaunchResult
from sweeps.spec.model import Email, Event, Webhook
from sweeps.spec.notifying import is_safe
from sweeps.words import configuration_name

SECONDS = 30.0
"""The time limit of a server or a command."""


def event_of(result: LaunchResult) -> Event | None:
    """The event that a launch's end is; None if a user interrupted it, who knows already."""
    if result.state == "interrupted":
        return "budget" if (result.reason or "").startswith("budget.") else None
    return "failure" if result.state == "failed" else "end"


def message_of(result: LaunchResult, event: Event) -> dict[str, Any]:
    """The notification as JSON values."""
    objective = next(iter(result.sweep.search.objective))
    best = result.best and {
        "configuration": configuration_name(result.best[0].trial),
        "objective": objective,
        "value": result.best_value,
    }
    return {
        "event": event,
        "sweep": result.sweep.name,
        "state": result.state,
        "reason": result.reason,
        "trials": dict(result.trials),
        "failure": result.failure,
        "best": best or None,
        "folder": str(result.sweep.folder),
        "text": _text(result),
    }


def _text(result: LaunchResult) -> str:
    counts = ", ".join(f"{count} {state}" for state, count in sorted(result.trials.items())) or "no trial"
    why = f" ({result.reason})" if result.reason else ""
    best = ""
    if result.best and result.best_value is not None:
        objective = next(iter(result.sweep.search.objective))
        best = f"; best {configuration_name(result.best[0].trial)}, {objective} = {result.best_value:.4g}"
    return f"{result.sweep.name} {result.state}{why}: {counts}{best}"


def notify(result: LaunchResult) -> list[str]:
    """Send the notifications that the spec asks for; returns one line per failure, without any secret."""
    rule, event = result.sweep.model.notify, event_of(result)
    if event is None or event not in rule.at:
        return []
    message = message_of(result, event)
    ways: dict[str, Callable[[], None]] = {}
    if rule.command:
        command = rule.command
        ways["command"] = lambda: _run(command, message)
    if rule.webhook:
        webhook = rule.webhook
        ways["webhook"] = lambda: _post(webhook, message)
    if rule.email:
        email = rule.email
        ways["e-mail"] = lambda: _mail(email, message)
    warnings = []
    for name, send in ways.items():
        try:
            send()
        except Exception as error:  # noqa: BLE001 - whatever fails here, the sweep itself has ended
            warnings.append(f"the notification by {name} failed: {_why(error)}")
    return warnings


def _why(error: Exception) -> str:
    """What went wrong, without any address or any secret that a server may have repeated."""
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code}"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the server answered {error.smtp_code}"
    if isinstance(error, subprocess.CalledProcessError):
        return f"the command exited with {error.returncode}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"the command did not end within {SECONDS:g} s"
    if isinstance(error, urllib.error.URLError):
        return f"the server cannot be reached ({type(error.reason).__name__})"
    if isinstance(error, KeyError):
        return f"environment variable {error.args[0]} is not set"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


def _run(command: tuple[str, ...], message: Mapping[str, Any]) -> None:
    """Run a command with the message on its standard input, without a shell."""
    text = json.dumps(message)
    subprocess.run(command, input=text, text=True, check=True, timeout=SECONDS, capture_output=True)


def _post(webhook: Webhook, message: Mapping[str, Any]) -> None:
    url = webhook.url or os.environ[webhook.url_variable or ""]
    if not is_safe(url):
        raise urllib.error.URLError(ValueError("no https"))
    headers = {"Content-Type": "application/json"}
    if webhook.token_variable:
        headers["Authorization"] = f"Bearer {os.environ[webhook.token_variable]}"
    request = urllib.request.Request(url, json.dumps(message).encode(), headers, method="POST")
    with urllib.request.urlopen(request, timeout=SECONDS):
        pass


def _mail(email: Email, message: Mapping[str, Any]) -> None:
    letter = EmailMessage()
    letter["From"], letter["To"] = email.sender, ", ".join(email.to)
    letter["Subject"] = f"linsweep: {message['sweep']} {message['state']}"
    letter.set_content(f"{message['text']}\n\nrecord: {message['folder']}\n")
    context = ssl.create_default_context()
    server: smtplib.SMTP
    if email.security == "tls":
        server = smtplib.SMTP_SSL(email.host, email.port, timeout=SECONDS, context=context)
    else:
        server = smtplib.SMTP(email.host, email.port, timeout=SECONDS)
    with server:
        if email.security == "starttls":
            server.starttls(context=context)
        if email.user_variable:
            server.login(os.environ[email.user_variable], os.environ[email.password_variable or ""])
        server.send_message(letter)
