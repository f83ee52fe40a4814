"""The ASGI application: pages and files by Django, the live feed by a consumer."""

import os

import django
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cfsite.settings")
django.setup(set_prefix=False)

from cfsite.middleware import on_the_loop  # noqa: E402 - needs the settings
from files_app.access import OwnOriginOnly  # noqa: E402 - needs the settings
from files_app.routing import websocket_urlpatterns  # noqa: E402


class Handler(ASGIHandler):
    # Django cuts what a view yields into pieces of this size; downloads come in 256 KiB.
    chunk_size = 1 << 18

    def load_middleware(self, is_async: bool = False) -> None:
        # The settings name Django's own, for its checks look there for them.
        named = settings.MIDDLEWARE
        settings.MIDDLEWARE = [on_the_loop(path) for path in named]
        try:
            super().load_middleware(is_async)
        finally:
            settings.MIDDLEWARE = named


application = ProtocolTypeRouter(
    {
        "http": Handler(),
        "websocket": OwnOriginOnly(URLRouter(websocket_urlpatterns)),
    }
)
