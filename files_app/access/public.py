"""The addresses to hand on to others: of the page, and of the file server.

None is made of the header ``Host`` of a request, which anybody can choose.
"""

from django.conf import settings
from django.urls import get_script_prefix

from files_app.access.addresses import addresses_of
from files_app.access.loopback import is_this_machine
from fileserver.net.address import address_text, where_reached


def page_url(path: str = "/") -> str:
    """The address of a page, whose ``path`` is as ``reverse`` gives it."""
    return page_urls(path)[0]


def page_urls(path: str = "/") -> list[str]:
    """All addresses of a page, the best first; there is always one."""
    if public := settings.PUBLIC_URL:
        return [f"{public.rstrip('/')}/{path.removeprefix(get_script_prefix()).lstrip('/')}"]
    scheme = "https" if settings.TLS_CERT else "http"
    hosts = addresses_of(settings.WEB_HOST) or [where_reached(settings.WEB_HOST)]
    return [f"{scheme}://{address_text(host, settings.WEB_PORT)}{path}" for host in hosts]


def server_address() -> str:
    """Of the file server, for people to read: where it is reached from elsewhere, if it is."""
    host = settings.SERVER_HOST
    return address_text(next(iter(addresses_of(host)), where_reached(host)), settings.SERVER_PORT)


def is_on_network() -> bool:
    """Whether the site listens on an address that other machines may reach."""
    return not is_this_machine(settings.WEB_HOST)


def has_network() -> bool:
    """Whether there is an address to hand on, as there is none while this machine is in no network."""
    return bool(settings.PUBLIC_URL or addresses_of(settings.WEB_HOST))
