"""What can be had, and what was moved."""

from files_app.models.files import File
from files_app.models.runs import ServerRun
from files_app.models.transfers import Transfer

__all__ = ["File", "ServerRun", "Transfer"]
