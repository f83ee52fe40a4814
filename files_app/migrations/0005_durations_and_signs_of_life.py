"""How long each transfer took, as a value of its own; and when a server was last known to be alive."""

from django.db import migrations, models

ROWS = 5000  # at a time: a long history need not fit into memory


def fill_seconds(apps, schema_editor):
    """Of rows that ended before there was a clock for it: from begin to end, and never less than nothing."""
    transfers = apps.get_model("files_app", "Transfer").objects.using(schema_editor.connection.alias)
    ended = transfers.filter(finished_at__isnull=False).order_by("pk")
    quote, last = schema_editor.quote_name, 0
    update = f"UPDATE {quote('files_app_transfer')} SET {quote('seconds')} = %s WHERE {quote('id')} = %s"
    while rows := list(ended.filter(pk__gt=last).values_list("pk", "started_at", "finished_at")[:ROWS]):
        with schema_editor.connection.cursor() as cursor:
            cursor.executemany(update, [(max(0.0, (end - begin).total_seconds()), pk) for pk, begin, end in rows])
        last = rows[-1][0]


class Migration(migrations.Migration):

    dependencies = [
        ('files_app', '0004_history_in_its_order'),
    ]

    operations = [
        migrations.CreateModel(
            name='ServerRun',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(help_text='names it outside the database too', max_length=32, unique=True)),
                ('started_at', models.DateTimeField()),
                ('seen_at', models.DateTimeField(help_text='renewed about once a second while transfers run')),
            ],
        ),
        migrations.AddField(
            model_name='transfer',
            name='seconds',
            field=models.FloatField(blank=True, help_text='that it took, all tries of an upload together, by a clock that nobody sets; of one that runs, as last written', null=True),
        ),
        migrations.RunPython(fill_seconds, migrations.RunPython.noop),
    ]
