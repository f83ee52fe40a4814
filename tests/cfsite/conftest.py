"""What some of these tests share with those of the app: its database, and a file server."""

from tests.files_app.conftest import database as database
from tests.files_app.conftest import django_db_setup as django_db_setup
from tests.files_app.conftest import folder as folder
from tests.files_app.conftest import quick_looks as quick_looks
from tests.files_app.conftest import served as served
