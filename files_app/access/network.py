"""Where the servers may listen: on this machine, and on the network once there are accounts."""

from django.conf import settings
from django.core.management import CommandError

from files_app.access.loopback import is_this_machine


def require_private(host: str, setting: str) -> None:
    """Raise ``CommandError`` for an address that others on the network could reach."""
    if not is_this_machine(host):
        raise CommandError(
            f"Refusing to listen on {host}: everybody who reached it could change and delete all files. "
            "Access control comes first. "
            f"Until there are accounts, set {setting} to 127.0.0.1, ::1 or localhost."
        )


def require_encrypted(host: str, setting: str) -> None:
    """Raise ``CommandError`` for an address that others reach, if ``REQUIRE_TLS`` is set and TLS is not."""
    if settings.REQUIRE_TLS and not settings.TLS_CERT and not is_this_machine(host):
        raise CommandError(
            f"Refusing to listen on {host} without TLS, which REQUIRE_TLS asks for: others could read "
            "passwords and files on their way. `manage.py makecert` makes a certificate, which TLS_CERT and "
            f"TLS_KEY name. Or set {setting} to 127.0.0.1, ::1 or localhost."
        )
