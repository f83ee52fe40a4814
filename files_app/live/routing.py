"""Where each websocket leads."""

from channels.security.websocket import WebsocketDenier
from django.urls import path, re_path

from files_app.live.consumers import LiveConsumer

websocket_urlpatterns = [
    path("ws/live/", LiveConsumer.as_asgi()),
    re_path("", WebsocketDenier.as_asgi()),  # else each stranger's address is a traceback in the log
]
