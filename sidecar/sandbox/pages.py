"""The HTML the sandbox shows: the login a person or a script clicks through, and the index.

Plain forms, no script, nothing loaded from anywhere. It must not know what a click leads to.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from sidecar.sandbox.replies import HTML_TYPE, Reply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.sandbox.data_sets import Account

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem;"
    "color:#1b1f24;background:#fff}form,table{margin:1.5rem 0}label{display:block;margin:.6rem 0}"
    "input[type=text],input[type=password]{display:block;width:100%;padding:.5rem;font:inherit}"
    "button{font:inherit;padding:.4rem 1.2rem;margin-right:.6rem}.note{color:#57606a}"
    ".wrong{color:#a40e26}td,th{text-align:left;padding:.3rem .8rem .3rem 0;vertical-align:top}"
    "code{font-size:.9em}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

_SIGN_IN: Final = """<h1>Sign in to {provider}</h1>
<p class="note">This is a local sandbox. No bank is behind it: the user name is the password,
for instance <code>mikomo_10</code>.</p>{problem}
<form method="post" action="/auth/sign-in"><input type="hidden" name="request" value="{request}">
<label>User name <input type="text" name="username" autocomplete="username" required></label>
<label>Password <input type="password" name="password" autocomplete="off" required></label>
<button type="submit" name="decision" value="next">Sign in</button>{cancel}</form>"""

_TERMS: Final = """<h1>Terms</h1>
<p><strong>{client}</strong> asks {provider} to share account data of <strong>{user}</strong>.
The data is invented.</p>
<form method="post" action="/auth/terms"><input type="hidden" name="request" value="{request}">
<button type="submit" name="decision" value="next">Next</button>{cancel}</form>"""

_ACCOUNTS: Final = """<h1>Choose accounts</h1>{problem}
<form method="post" action="/auth/accounts"><input type="hidden" name="request" value="{request}">
{boxes}
<button type="submit" name="decision" value="approve">Approve</button>{cancel}</form>"""

_CANCEL: Final = (
    '<button type="submit" name="decision" value="cancel" formnovalidate>Cancel</button>'
)


def sign_in_page(*, provider: str, request: str, redirect_uri: str, problem: str = "") -> Reply:
    """Ask for user name and password; with a problem, say it and answer 401."""
    body = _SIGN_IN.format(
        provider=escape(provider), request=request, problem=_problem(problem), cancel=_CANCEL
    )
    return _page("Sign in", body, redirect_uri=redirect_uri, status=401 if problem else 200)


def terms_page(*, client: str, provider: str, user: str, request: str, redirect_uri: str) -> Reply:
    """Say who asks for whose data."""
    body = _TERMS.format(
        client=escape(client),
        provider=escape(provider),
        user=escape(user),
        request=request,
        cancel=_CANCEL,
    )
    return _page("Terms", body, redirect_uri=redirect_uri)


def accounts_page(
    accounts: Sequence[Account], *, request: str, redirect_uri: str, problem: str = ""
) -> Reply:
    """Let the user choose accounts; with a problem, say it and answer 400."""
    boxes = "\n".join(
        f'<label><input type="checkbox" name="account" value="{escape(account.id)}"> '
        f"{escape(account.nickname)} {escape(account.display_number)}</label>"
        for account in accounts
    )
    body = _ACCOUNTS.format(request=request, boxes=boxes, problem=_problem(problem), cancel=_CANCEL)
    return _page("Accounts", body, redirect_uri=redirect_uri, status=400 if problem else 200)


def error_page(message: str, *, status: int = 400) -> Reply:
    """Show an error that must not be sent to a redirect URI."""
    return _page("Error", f'<h1>Error</h1><p class="wrong">{escape(message)}</p>', status=status)


def no_connector_page() -> Reply:
    """Show what a missing connector leads to: a login page, with 200, that leads nowhere."""
    body = "<h1>Sign in</h1><p>The request named no connector, so this login leads to no bank.</p>"
    return _page("Sign in", body)


def index_page(*, url: str, rows: Sequence[tuple[str, str]]) -> Reply:
    """List what the sandbox serves."""
    table = "\n".join(
        f"<tr><td><code>{escape(call)}</code></td><td>{escape(does)}</td></tr>"
        for call, does in rows
    )
    body = (
        f"<h1>Sandbox</h1><p>A local Akoya for tests, at <code>{escape(url)}</code>: identity"
        " provider and data APIs on one origin. Everything it tells is invented.</p>"
        f"<table><tr><th>Request</th><th>What it does</th></tr>{table}</table>"
    )
    return _page("Sandbox", body)


def _page(title: str, body: str, *, status: int = 200, redirect_uri: str | None = None) -> Reply:
    document = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title} - sandbox'
        '</title><meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>"
    )
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": _policy(redirect_uri),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return Reply(
        status=status,
        body=document.encode(),
        content_type=f"{HTML_TYPE}; charset=utf-8",
        headers=headers,
    )


def _policy(redirect_uri: str | None) -> str:
    # Browsers hold the redirect that follows a form post against form-action too.
    targets = "'self'"
    if redirect_uri is not None:
        parts = urlsplit(redirect_uri)
        targets = f"'self' {parts.scheme}://{parts.netloc}"
    return (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action {targets};"
        " base-uri 'none'; frame-ancestors 'none'"
    )


def _problem(text: str) -> str:
    return f'<p class="wrong">{escape(text)}</p>' if text else ""
