"""Checks of ``notify``, the part of a spec that says who is notified of a sweep's end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from sweeps.spec.model import Notify
from sweeps.spec.validation import Problem

HERE = ("localhost", "127.0.0.1", "::1")


def notify_problems(notify: Notify) -> Iterator[Problem]:
    """Invalid addresses, passwords that would be recorded, and unset environment variables."""
    webhook, email = notify.webhook, notify.email
    variables: dict[str, str | None] = {}
    if webhook is not None:
        key = "notify.webhook"
        if (webhook.url is None) == (webhook.url_variable is None):
            yield Problem(key, "give exactly one of url and, if the address is secret, url_variable")
        if webhook.url is not None and not is_safe(webhook.url):
            message = "must begin with https:// and contain no password; put a token into token_variable"
            yield Problem(f"{key}.url", message)
        variables |= {f"{key}.{name}": getattr(webhook, name) for name in ("url_variable", "token_variable")}
    if email is not None:
        key = "notify.email"
        if (email.user_variable is None) != (email.password_variable is None):
            yield Problem(key, "user_variable and password_variable go together; give both or neither")
        if email.user_variable is not None and email.security == "none":
            yield Problem(f"{key}.security", "must be starttls or tls if a password is sent")
        variables |= {f"{key}.{name}": getattr(email, name) for name in ("user_variable", "password_variable")}
    for key, variable in variables.items():
        if variable is not None and not os.environ.get(variable):
            yield Problem(key, f"environment variable {variable} is not set; set it where the sweep is launched")


def is_safe(url: str) -> bool:
    """Whether an address is https without a password; http is accepted for this machine itself.

    >>> is_safe("https://hooks.example/sweeps"), is_safe("http://hooks.example/"), is_safe("http://127.0.0.1:8000/")
    (True, False, True)
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    known = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in HERE)
    return known and bool(parts.hostname) and parts.password is None
