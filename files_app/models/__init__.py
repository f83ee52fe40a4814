"""What can be had, what was moved, and who may do what."""

from files_app.models.audit import AuditEvent
from files_app.models.changes import AccessChange
from files_app.models.files import File
from files_app.models.links import Link, LinkDownload, LinkUpload
from files_app.models.quotas import Quota
from files_app.models.rules import AccessRule
from files_app.models.runs import ServerRun
from files_app.models.throttle import Throttle
from files_app.models.tokens import Token
from files_app.models.transfers import Transfer

__all__ = [
    "AccessChange",
    "AccessRule",
    "AuditEvent",
    "File",
    "Link",
    "LinkDownload",
    "LinkUpload",
    "Quota",
    "ServerRun",
    "Throttle",
    "Token",
    "Transfer",
]
