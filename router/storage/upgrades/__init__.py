"""The upgrades (Alembic): DDL as text, frozen once released. Run by router/storage/upgrade.py, never by hand."""
