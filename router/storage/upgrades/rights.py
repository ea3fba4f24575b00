"""What every upgrade needs: running statements, and the rights of the two roles on a new table.

`figueira_engine` (accept, workers, import) sees all tenants; `figueira_tenant` (API, console) sees the tenant named by the
transaction's setting `figueira.tenant`, or all of them when that is `*` (a key for every tenant).
"""

from alembic import op

ENGINE, TENANT = "figueira_engine", "figueira_tenant"
# After a transaction that set it locally the setting is '' and not NULL.
_SETTING = "nullif(current_setting('figueira.tenant', true), '')"


def run(script: str) -> None:
    """Execute the statements of a script; they are separated by blank lines."""
    for statement in script.strip().split("\n\n"):
        op.get_bind().exec_driver_sql(statement)


def grant(table: str, *, tenant: str = "") -> None:
    """All work for the engine; `tenant`: privileges of the tenant role ("select, insert"; "": none)."""
    run(f"grant select, insert, update, delete on {table} to {ENGINE}")
    if tenant:
        run(f"grant {tenant} on {table} to {TENANT}")


def protect(table: str) -> None:
    """Forced row-level security by tenant_id. The owner has no policy: an upgrade that must read or change rows
    does it under `set local role figueira_engine`."""
    run(f"""
alter table {table} enable row level security, force row level security

create policy engine on {table} to {ENGINE} using (true) with check (true)

create policy tenant on {table} to {TENANT}
    using (tenant_id = {_SETTING} or {_SETTING} = '*')
    with check (tenant_id = {_SETTING} or {_SETTING} = '*')
""")
