"""The first schema.

Revision: 0001
"""

from alembic import op

from appliance.index.schema import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table."""
    metadata.create_all(op.get_bind())


def downgrade() -> None:
    """Not offered: a backup is taken before each migration."""
    raise RuntimeError("restore the backup that was taken before the migration")
