"""The durable side: tables, migrations, the drain from stream to tables, reconciliation."""
