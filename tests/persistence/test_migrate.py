"""`flashsale migrate`: from nothing, from each earlier version, twice at once, and never apart from the tables in
code.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

from engine.settings import SettingError
from persistence import database, migrate, secret
from persistence.tables import metadata


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "persistence:migrations")
    return config


REVISIONS = [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()][::-1]

# What Postgres itself says of a schema: columns, constraints, indexes, comments.
CATALOGUE = """
SELECT 'column', table_name, column_name, data_type, is_nullable, coalesce(column_default, ''), is_identity
  FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '', ''
  FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'index', tablename, indexname, indexdef, '', '', '' FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'comment', relname, '', obj_description(oid), '', '', ''
  FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
"""


def _catalogue(engine: Engine) -> set[tuple[str, ...]]:
    with engine.connect() as conn:
        return {tuple(row) for row in conn.execute(text(CATALOGUE)) if row[1] != "alembic_version"}


def test_a_database_from_nothing_is_the_tables_in_code(empty_database_url: str) -> None:
    assert migrate.migrate(empty_database_url) == REVISIONS

    engine = database.connect(empty_database_url)
    options = {"compare_type": True, "compare_server_default": True}
    with engine.connect() as conn:
        assert compare_metadata(MigrationContext.configure(conn, opts=options), metadata) == []

    migrated = _catalogue(engine)
    with engine.begin() as conn:
        conn.execute(text("DROP SCHEMA public CASCADE"))
        conn.execute(text("CREATE SCHEMA public"))
        metadata.create_all(conn)
    assert migrated == _catalogue(engine)
    engine.dispose()


@pytest.mark.parametrize("revision", REVISIONS)
def test_each_version_goes_on_to_the_current_one(empty_database_url: str, revision: str) -> None:
    engine = database.connect(empty_database_url)
    with engine.begin() as conn:
        config = _config()
        config.attributes["connection"] = conn
        command.upgrade(config, revision)
    rest = REVISIONS[REVISIONS.index(revision) + 1 :]

    assert migrate.pending(engine) == rest
    assert migrate.migrate(empty_database_url) == rest
    assert migrate.pending(empty_database_url) == []
    with engine.connect() as conn:
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []
    engine.dispose()


def test_two_at_once_apply_each_revision_once(empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(migrate.migrate, [empty_database_url] * 4))

    assert sorted(applied, key=len) == [[], [], [], REVISIONS]


def test_the_secret_is_made_once(empty_database_url: str) -> None:
    migrate.migrate(empty_database_url)
    engine = database.connect(empty_database_url)
    first = secret.ids_secret(engine)
    migrate.migrate(empty_database_url)

    assert len(first) == 32
    assert secret.ids_secret(engine) == first
    with engine.begin() as conn:
        assert list(conn.execute(text("SELECT last FROM order_feed"))) == [(0,)]
        conn.execute(text("DELETE FROM secrets"))
    with pytest.raises(LookupError, match="flashsale migrate"):
        secret.ids_secret(engine)
    engine.dispose()


def test_a_database_of_a_newer_version_is_left_alone(database_url: str) -> None:
    engine = database.connect(database_url)
    with engine.begin() as conn:
        conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(migrate.NewerSchema, match="9999"):
        migrate.pending(engine)
    with pytest.raises(migrate.NewerSchema, match="install a newer one"):
        migrate.migrate(database_url)
    engine.dispose()


@pytest.mark.parametrize("scheme", ["postgres://", "postgresql://", "postgresql+psycopg://"])
def test_every_spelling_of_the_url_is_understood(database_url: str, scheme: str) -> None:
    engine = database.connect(database_url.replace("postgresql://", scheme, 1))
    with engine.connect() as conn:
        assert conn.scalar(text("SHOW transaction_isolation")) == "read committed"
    engine.dispose()


@pytest.mark.parametrize("url", ["mysql://localhost/x", "localhost", "postgresql://h:99x9/?nonsense=1"])
def test_a_url_that_cannot_be_used_is_said_in_one_line(url: str) -> None:
    with pytest.raises(SettingError, match=r"^FLASHSALE_DATABASE_URL .*$") as error:
        database.connect(url)
    assert "\n" not in str(error.value)
