"""Run by Alembic: use the connection that `index.migrate` opened."""

from alembic import context

from appliance.index.partial_indexes import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
