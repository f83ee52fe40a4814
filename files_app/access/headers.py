"""The token in the header ``Authorization`` of a request or a websocket (RFC 6750, RFC 7617)."""

import base64
from typing import Any

from django.http import HttpRequest

from files_app.access.principals import address_of, token_principal
from fileserver.rights import Principal


def is_bearer(request_or_scope: HttpRequest | dict[str, Any]) -> bool:
    return _header(request_or_scope)[:7].lower() == "bearer "


def shown_token(request_or_scope: HttpRequest | dict[str, Any]) -> Principal | None:
    """Who shows a good token: as ``Bearer``, or as the password of ``Basic``, which more programs know."""
    scheme, _, value = _header(request_or_scope).partition(" ")
    text = (
        value.strip()
        if scheme.lower() == "bearer"
        else _password_of(value)
        if scheme.lower() == "basic"
        else ""
    )
    return token_principal(text, address_of(request_or_scope))


def _password_of(value: str) -> str:
    try:
        return base64.b64decode(value.strip(), validate=True).decode("utf-8").partition(":")[2]
    except ValueError:
        return ""


def _header(request_or_scope: HttpRequest | dict[str, Any]) -> str:
    if isinstance(request_or_scope, HttpRequest):
        return request_or_scope.headers.get("Authorization", "")
    given = (value for name, value in request_or_scope.get("headers", ()) if name == b"authorization")
    return next(given, b"").decode("latin-1")
