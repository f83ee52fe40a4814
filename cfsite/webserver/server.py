"""The web server of this site: Daphne with flow control, and this site's limits."""

# mypy: disable-error-code="no-untyped-call"

import re
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from django.conf import settings
from OpenSSL.crypto import X509, PKey
from twisted.internet.ssl import AcceptableCiphers, CertificateOptions, TLSVersion

from cfsite.webserver.flow import BODY_LIMIT, FlowServer
from files_app.access import tls
from files_app.access.proxies import inner_path, is_trusted


class SiteServer(FlowServer):
    def run(self) -> None:
        self.tls_options = _tls_options()
        super().run()

    is_shared = staticmethod(is_trusted)

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


def _tls_options() -> CertificateOptions | None:
    if not tls.is_on():
        return None
    own, *others = map(load_pem_x509_certificate, tls.certificates())
    key: Any = load_pem_private_key(tls.key_path().read_bytes(), None)
    return CertificateOptions(
        privateKey=PKey.from_cryptography_key(key),
        certificate=X509.from_cryptography(own),
        extraCertChain=[X509.from_cryptography(cert) for cert in others],
        raiseMinimumTo=TLSVersion.TLSv1_2,
        acceptableCiphers=AcceptableCiphers.fromOpenSSLCipherString(tls.CIPHERS),
    )


def _inside(path: str) -> str:
    """Where a path leads, seen from the site, or from the drop that it is of."""
    return re.sub(r"\A/d/[^/]+(?=/)", "", inner_path(path))
