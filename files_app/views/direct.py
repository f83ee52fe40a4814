"""Direct downloads, the site's side: when a browser is sent to the file server's own port, and with what.

Only a page that has found that port reachable asks for it (``?direct=1``). Everybody else's bytes are
relayed: through a tunnel or a proxy there is often no other way.
"""

from typing import Any
from urllib.parse import quote, urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.request import split_domain_port

from files_app.access import tickets
from files_app.access.principals import principal_of
from files_app.views.relay import connect


async def sent_to_server(
    request: HttpRequest, name: str, pace: dict[str, Any] | None
) -> HttpResponseRedirect | None:
    """The way to the file server, if the link asks for it and there is one.

    What cannot be had is refused here, for the site says it on a page. Raises as every request to the file
    server does.
    """
    if request.GET.get("direct") != "1" or base_of(request) is None:
        return None
    async with await connect() as client:
        await client.request("STAT", name=name)
    # The ticket is of this moment and this browser.
    return HttpResponseRedirect(direct_url(request, name, pace), headers={"Cache-Control": "no-store"})


def direct_url(request: HttpRequest, name: str, pace: dict[str, Any] | None = None) -> str:
    """Where this browser gets that file; with the name "", where it sees that it reaches the file server."""
    ticket = tickets.make(name, principal_of(request), pace)
    return f"{base_of(request)}/get/{ticket}/{quote(name)}"


def base_of(request: HttpRequest) -> str | None:
    """How the URLs of the file server begin for this browser; ``None`` if it has none to go to."""
    if not settings.DIRECT_DOWNLOADS:
        return None
    base = settings.SERVER_PUBLIC_URL.rstrip("/") or _beside_us(request)
    if request.is_secure() and not base.startswith("https:"):
        return None  # the browser would block it, or warn
    return base or None


def _beside_us(request: HttpRequest) -> str:
    domain, _ = split_domain_port(request.get_host())
    scheme = "https" if settings.TLS_CERT else "http"
    # A content security policy, which must let the page try it, knows no addresses of IPv6.
    return "" if domain.startswith("[") else f"{scheme}://{domain}:{settings.SERVER_PORT}"


def may_try(response: HttpResponse, url: str) -> HttpResponse:
    """Let the page connect to the origin of ``url``, besides its own."""
    parts = urlsplit(url)
    # As the decorators of django-csp do, which know no request.
    response._csp_update = {"connect-src": [f"{parts.scheme}://{parts.netloc}"]}  # type: ignore[attr-defined]
    return response
