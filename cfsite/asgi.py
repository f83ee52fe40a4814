"""The ASGI application: pages and files by Django, the live feed by a consumer."""

import logging
import os
import tempfile
from typing import Any

import django
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpResponse

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cfsite.settings")
django.setup(set_prefix=False)

from cfsite.webserver.spool import Spool  # noqa: E402 - needs the settings
from files_app.access.origin import OwnOriginOnly  # noqa: E402
from files_app.access.proxies import BehindProxies  # noqa: E402
from files_app.live.routing import websocket_urlpatterns  # noqa: E402
from files_app.views.temporary import NoRoom, kept_on_disk  # noqa: E402

logger = logging.getLogger(__name__)


class Handler(ASGIHandler):
    # Django cuts what a view yields into pieces of this size; downloads come in 256 KiB.
    chunk_size = 1 << 18

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().handle(scope, receive, send)
        except NoRoom as error:  # there is no request yet that a view could answer
            logger.warning("%s", error)
            text = f"{error}\n"
            response = HttpResponse(text, status=507, content_type="text/plain; charset=utf-8")
            response["Content-Length"] = str(len(text.encode()))
            await self.send_response(response, send)

    async def read_body(self, receive: Any) -> Any:
        """The whole body in a file, like Django's; raises ``NoRoom`` if that cannot be written."""
        most = settings.FILE_UPLOAD_MAX_MEMORY_SIZE
        body = Spool(tempfile.SpooledTemporaryFile(most))  # noqa: SIM115, closed by Django
        try:
            with kept_on_disk():
                while (message := await receive())["type"] == "http.request":
                    body.write(message.get("body", b""))
                    if not message.get("more_body"):
                        size = body.tell()
                        body.seek(0)
                        return body if size > most else body.file
            raise RequestAborted
        except BaseException:
            body.close()
            raise


application = BehindProxies(
    ProtocolTypeRouter(
        {
            "http": Handler(),
            "websocket": OwnOriginOnly(URLRouter(websocket_urlpatterns)),
        }
    )
)
