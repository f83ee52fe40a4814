from tests.files_app.conftest import database as database
from tests.files_app.conftest import django_db_setup as django_db_setup
