"""Where people find this site: for what is handed on, never made of what a request says of itself."""

from django.conf import settings

from fileserver.net.address import address_text


def page_url(path: str = "/") -> str:
    base = getattr(settings, "PUBLIC_URL", "").rstrip("/")
    return (base or f"http://{address_text(settings.WEB_HOST, settings.WEB_PORT)}") + path
