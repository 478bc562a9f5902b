"""${message}

Revision: ${up_revision}, after ${down_revision | comma,n}
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Make the change; Alembic runs it in one transaction."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Not offered: a backup is taken before each migration."""
    raise RuntimeError("restore the backup that was taken before the migration")
