"""Alembic's entry: works on the connection that router/storage/upgrade.py hands over."""

from alembic import context


def main() -> None:
    context.configure(
        connection=context.config.attributes["connection"],
        version_table="figueira_upgrades",
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


main()
