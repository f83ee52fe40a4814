"""Where each websocket leads."""

from django.urls import path

from files_app.consumers import LiveConsumer

websocket_urlpatterns = [path("ws/live/", LiveConsumer.as_asgi())]
