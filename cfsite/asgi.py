"""The ASGI application: pages and files by Django, the live feed by a consumer."""

import os
from typing import Any

import django
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cfsite.settings")
django.setup(set_prefix=False)

from cfsite.middleware import on_the_loop  # noqa: E402 - needs the settings
from cfsite.spool import Spool  # noqa: E402
from files_app.access import OwnOriginOnly  # noqa: E402 - needs the settings
from files_app.routing import websocket_urlpatterns  # noqa: E402


class Handler(ASGIHandler):
    # Django cuts what a view yields into pieces of this size; downloads come in 256 KiB.
    chunk_size = 1 << 18

    async def read_body(self, receive: Any) -> Any:
        body = await super().read_body(receive)
        size = body.seek(0, os.SEEK_END)
        body.seek(0)
        return Spool(body) if size > settings.FILE_UPLOAD_MAX_MEMORY_SIZE else body

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
