"""On PostgreSQL: an index of the names in the order in which they are shown. SQLite's has that order."""

from django.db import migrations


def make_index(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(
            'CREATE INDEX files_by_name ON files_app_file (name COLLATE "C") WHERE gone_at IS NULL'
        )


def drop_index(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP INDEX IF EXISTS files_by_name")


class Migration(migrations.Migration):

    dependencies = [
        ('files_app', '0007_whose_row_it_is'),
    ]

    operations = [migrations.RunPython(make_index, drop_index)]
