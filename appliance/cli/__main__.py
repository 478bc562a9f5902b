"""`python -m appliance.cli`, which is how supervisord starts the processes."""

import gc
import sys

# Until everything is imported there is no garbage to look for: a quarter of a start's CPU.
gc.disable()

from appliance.cli.main import main  # noqa: E402 - importing is what must not be disturbed

sys.exit(main())
