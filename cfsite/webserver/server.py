"""The web server of this site: Daphne with flow control, and this site's limits."""

import re

from django.conf import settings

from cfsite.webserver.encryption import tls_options
from cfsite.webserver.flow import BODY_LIMIT, FlowServer
from files_app.access.proxies import inner_path, is_trusted


class SiteServer(FlowServer):
    is_shared = staticmethod(is_trusted)

    def run(self) -> None:
        self.tls = tls_options()
        super().run()

    @staticmethod
    def body_limit(method: str, path: str) -> int | None:
        """Uploads may be as large as the file server takes them, everything else is a form."""
        if SiteServer.streams_body(method, path):
            return settings.MAX_UPLOAD_SIZE or None
        if _inside(path) == "/upload/":
            return (settings.MAX_UPLOAD_SIZE and settings.MAX_UPLOAD_SIZE + BODY_LIMIT) or None
        return BODY_LIMIT

    @staticmethod
    def streams_body(method: str, path: str) -> bool:
        path = _inside(path)
        folder = {"PUT": "/files/", "PATCH": "/uploads/", "POST": "/uploads/"}.get(method, "-")
        return path.startswith(folder) or f"{path}/" == folder


def _inside(path: str) -> str:
    """Where a path leads, seen from the site, or from the drop that it is of."""
    return re.sub(r"\A/d/[^/]+(?=/)", "", inner_path(path))
