"""The engine: stock and holds in Redis, changed only by the scripts in ``lua/``. Knows no web, no SQL and no queue."""
