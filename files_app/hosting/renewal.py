"""When a certificate of our own making is made anew, and where it lies."""

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from django.conf import settings

from files_app.database import sqlite_file
from files_app.hosting import authority
from files_app.hosting.authority import MOST_NAMES, Files, hosts_in
from files_app.hosting.certificates import SOON, is_our_making, read_chain
from files_app.hosting.machine import names_and_addresses

CERTIFICATE, KEY = "tls-cert.pem", "tls-key.pem"


def own_files() -> Files:
    """Those of the settings; without them beside the database, which nobody is served."""
    if settings.TLS_CERT and settings.TLS_KEY:
        return Files(Path(settings.TLS_CERT), Path(settings.TLS_KEY))
    database = sqlite_file()
    folder = database.parent if database else Path(settings.BASE_DIR)
    return Files(folder / CERTIFICATE, folder / KEY)


def hosts_for(certificate: x509.Certificate | None, more: list[str]) -> list[str]:
    """What a new certificate is to be good for: ``more``, this machine, and what the last one was good for.

    So what was named by hand stays, and who moves between two networks needs no new one each time.
    """
    before = hosts_in(certificate) if certificate else []
    return list(dict.fromkeys([*more, *names_and_addresses(), *before]))[:MOST_NAMES]


def renew_if_due() -> list[str]:
    """Make the certificate anew if it is ours and has to be; sentences about it, none if it was not.

    Raises ``BadCertificate``, and ``OSError`` if it cannot be written.
    """
    files = own_files()
    # Without its authority's key it can only be used as it is.
    if not (settings.TLS_CERT and settings.TLS_KEY and files.authority_key.exists()):
        return []
    found = read_chain(settings.TLS_CERT)[0]
    reason = _reason(found) if is_our_making(found) else ""
    if not reason:
        return []
    made = authority.make(files, hosts_for(found, []))
    told = [f"The certificate was made anew: {reason}. Its key is the same, and so is the fingerprint."]
    if made.replaces_authority:
        told.append(
            f"Its authority had to be made anew too. Who has imported it needs {files.authority} now."
        )
    return told


def _reason(certificate: x509.Certificate) -> str:
    known = hosts_in(certificate)
    new = [host for host in names_and_addresses() if host not in known]
    if new:
        return f"this machine is now {', '.join(new)} too"
    end = certificate.not_valid_after_utc
    return f"it would have ended on {end:%Y-%m-%d}" if end - datetime.now(UTC) < SOON else ""
