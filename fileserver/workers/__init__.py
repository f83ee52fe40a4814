"""Which thread serves which client. Read ``base``, then ``thread_per_client``."""

from fileserver.workers.base import Workers
from fileserver.workers.leader_followers import LeaderFollowers
from fileserver.workers.one_at_a_time import OneAtATime
from fileserver.workers.pool import Pool
from fileserver.workers.thread_per_client import ThreadPerClient

DEFAULT = "thread_per_client"
MODELS: dict[str, type[Workers]] = {
    DEFAULT: ThreadPerClient,
    "one_at_a_time": OneAtATime,
    "pool": Pool,
    "leader_followers": LeaderFollowers,
}
