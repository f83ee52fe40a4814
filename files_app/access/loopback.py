"""Nobody but this machine, until there are accounts: where servers may listen, and who may ask."""

import socket

from django.core.management import CommandError
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse

from files_app.access.principals import address_of
from files_app.async_middleware import AsyncMiddleware
from fileserver.net.address import is_loopback, read_address


def is_this_machine(host: str) -> bool:
    """Whether ``host``, an address or a name, leads to this machine and to no other."""
    if read_address(host) is not None:
        return is_loopback(host)
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # the latter for what cannot be a name at all
        return False
    return bool(found) and all(is_loopback(str(entry[4][0])) for entry in found)


def require_loopback(host: str, setting: str) -> None:
    """Raise ``CommandError`` for an address that others on the network could reach."""
    if not is_this_machine(host):
        raise CommandError(
            f"Refusing to listen on {host}: everybody who reached it could change and delete all files. "
            "Access control comes first. "
            f"Until there are accounts, set {setting} to 127.0.0.1, ::1 or localhost."
        )


class LoopbackOnlyMiddleware(AsyncMiddleware):
    """Nobody but this machine, however the site was started. Async, so that downloads stay async."""

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if is_loopback(address_of(request)):
            return await self.get_response(request)
        message = "This site can only be used on the machine it runs on: access control comes first."
        context = {"status": 403, "title": "Not from here", "message": message}
        return TemplateResponse(request, "error.html", context, status=403).render()
