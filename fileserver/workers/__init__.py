"""Which thread serves which client. Read ``base``, then ``thread_per_client``."""

from fileserver.workers.base import Workers
from fileserver.workers.leader_followers import LeaderFollowers
from fileserver.workers.one_at_a_time import OneAtATime
from fileserver.workers.pool import Pool
from fileserver.workers.thread_per_client import ThreadPerClient

DEFAULT = "leader_followers"  # the fast one: docs/architecture.md has the figures of both
MODELS: dict[str, type[Workers]] = {
    "thread_per_client": ThreadPerClient,
    "one_at_a_time": OneAtATime,
    "pool": Pool,
    DEFAULT: LeaderFollowers,
}
