"""The ASGI application: pages and files by Django, the live feed by a consumer."""

import os

import django
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.handlers.asgi import ASGIHandler

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cfsite.settings")
django.setup(set_prefix=False)

from files_app.access import OwnOriginOnly  # noqa: E402 - needs the settings
from files_app.routing import websocket_urlpatterns  # noqa: E402


class Handler(ASGIHandler):
    # Django cuts what a view yields into pieces of this size; downloads come in 256 KiB.
    chunk_size = 1 << 18


application = ProtocolTypeRouter(
    {
        "http": Handler(),
        "websocket": OwnOriginOnly(URLRouter(websocket_urlpatterns)),
    }
)
