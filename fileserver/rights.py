"""Who asks, and what may they do: the seam between the server and whoever decides.

The server asks one function, ``may(principal, right, name)``, before each verb. It knows no accounts and no
rules; those belong to whoever passes the function in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from fileserver.names import composed
from fileserver.pacing import Pace

Right = Literal["list", "get", "add", "replace", "delete", "share", "watch", "control", "manage"]

# On files: asked for a name, or for the beginning of names.
LIST: Right = "list"
GET: Right = "get"
ADD: Right = "add"
REPLACE: Right = "replace"
DELETE: Right = "delete"
SHARE: Right = "share"
# On the server: asked without a name, or for the name of the transfer.
WATCH: Right = "watch"
CONTROL: Right = "control"
MANAGE: Right = "manage"


@dataclass(frozen=True, slots=True)
class Ticket:
    """One file that a browser may fetch over HTTP, and how fast; without a name, only that we are there."""

    name: str
    pace: Pace | None = None


# ``local``: whoever uses this machine, of a server that no other machine reaches. ``relay``: the site, which
# may speak for others: the server asks for the relay, and then for whom it names.
Kind = Literal["local", "guest", "user", "token", "link", "relay"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who asks. ``address`` is that of their connection, or the one that a relay names.

    ``key`` says which user, token or link, to whoever decides. ``user`` is a name, for the history. One with
    a ``ticket`` may download that one file, as long as they may without it, and nothing else.
    """

    kind: Kind = "guest"
    user: str | None = None
    address: str = ""
    ticket: Ticket | None = None
    key: int = 0

    def __str__(self) -> str:
        """As the protocol and the history have it: ``guest``, ``user:17``."""
        return f"{self.kind}:{self.key}" if self.key else self.kind

    @property
    def is_relay(self) -> bool:
        return self.kind == "relay"

    def is_same_as(self, other: "Principal") -> bool:
        """Whether both are one person, as far as can be told: by the account, else by the address.

        The name of somebody who comes by a link is whatever they have typed.
        """
        if "link" not in (self.kind, other.kind) and (self.user or other.user):
            return self.user == other.user
        return (self.kind, self.key, self.address) == (other.kind, other.key, other.address)


# The ``name`` is empty where a right is about the server, or about all names. Else it is composed (NFC): a
# file is found in either form of Unicode, so a rule must hold for both.
May = Callable[[Principal, Right, str], bool]
# (token, text of a ticket, or None; address of the client) → who that is; None: that token is refused
Authenticate = Callable[[str | None, str], Principal | None]


# Whether somebody is still who they were: a token may be revoked, an account closed.
IsKnown = Callable[[Principal], bool]


def local_guest(token: str | None, address: str) -> Principal | None:
    """The authentication of a server on loopback without accounts: there are no tokens."""
    return Principal("local", address=address) if token is None else None


def may_everything(principal: Principal, right: Right, name: str) -> bool:
    """The policy of a server on loopback without accounts. A ticket is for its file all the same."""
    return principal.ticket is None or is_ticket_for(principal.ticket, right, name)


def is_ticket_for(ticket: Ticket, right: Right, name: str) -> bool:
    return right == GET and name == composed(ticket.name)


# (who, name, bytes) → what to call when the upload is over, with the name it got or ``None``. Raises
# ``ErrorReply`` with the code ``quota`` if it would be too much.
Reserve = Callable[[Principal, str, int], Callable[[str | None], None]]


def no_quotas(principal: Principal, name: str, size: int) -> Callable[[str | None], None]:
    return _nothing_reserved


def _nothing_reserved(stored: str | None) -> None:
    pass


def everybody_is_known(principal: Principal) -> bool:
    return True


class Access(NamedTuple):
    """Who somebody is, and what they may do. Each may be called by any thread."""

    authenticate: Authenticate = local_guest
    may: May = may_everything
    may_somewhere: May = may_everything  # in any folder, where the name is the beginning of its name
    is_known: IsKnown = everybody_is_known
    reserve: Reserve = no_quotas
