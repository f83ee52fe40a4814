"""Where the servers may listen: on this machine, and on the network once there is an account."""

from django.conf import settings
from django.core.management import CommandError

from files_app.access.accounts import can_log_in
from files_app.access.addresses import machine
from files_app.access.loopback import is_this_machine
from files_app.database import as_command_errors
from fileserver.net.address import is_loopback, read_address

ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 - only by --lan, or with an account


def require_private(host: str, setting: str) -> None:
    """Raise ``CommandError`` for an address that others reach, as long as nobody could log in there."""
    if is_this_machine(host):
        return
    with as_command_errors():
        is_managed = can_log_in().exists()
    if not is_managed:
        raise CommandError(
            f"Refusing to listen on {host}: others reach it, and there is no account yet. "
            "`manage.py start --lan` makes one and listens on the network, `manage.py adduser` makes one. "
            f"Or set {setting} to 127.0.0.1, ::1 or localhost."
        )


def host_of_address(text: str) -> str:
    """The address of this machine that somebody has named to listen on. Raises ``CommandError``."""
    address = read_address(text)
    own = machine()
    if is_loopback(text):
        raise CommandError(
            f"{text} is reached from this machine only. Without --lan the servers listen there."
        )
    if address is None or address.is_unspecified or str(address) not in own.own:
        has = f"It has: {', '.join(own.for_others)}." if own.for_others else "It is in no network now."
        raise CommandError(f"{text} is no address of this machine. {has}")
    if address.version == 6 and address.is_link_local:
        raise CommandError(f"Browsers cannot open {text}, which is of one link only. Name another address.")
    return str(address)


def require_encrypted(host: str, setting: str) -> None:
    """Raise ``CommandError`` for an address that others reach, if ``REQUIRE_TLS`` is set and TLS is not."""
    if settings.REQUIRE_TLS and not settings.TLS_CERT and not is_this_machine(host):
        raise CommandError(
            f"Refusing to listen on {host} without TLS, which REQUIRE_TLS asks for: others could read "
            "passwords and files on their way. `manage.py makecert` makes a certificate, which TLS_CERT and "
            f"TLS_KEY name. Or set {setting} to 127.0.0.1, ::1 or localhost."
        )
