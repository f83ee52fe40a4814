"""What the sessions of one server share."""

from dataclasses import dataclass, field

from fileserver.events import Observer
from fileserver.limits import Limits, Options
from fileserver.rights import Access
from fileserver.storage.base import Opener, Store, Uploads
from fileserver.transfers.registry import Registry


@dataclass(frozen=True, slots=True)
class ServerContext:
    """What all sessions of a server share."""

    storage: Store
    opener: Opener  # of the storage; it announces waits for the disk where a scheduler must hear of them
    uploads: Uploads
    registry: Registry
    observer: Observer
    access: Access
    limits: Limits = field(default_factory=Limits)
    options: Options = field(default_factory=Options)
