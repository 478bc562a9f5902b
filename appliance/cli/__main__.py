"""`python -m appliance.cli`, which is how supervisord starts the processes."""

import sys

from appliance.cli.main import main

sys.exit(main())
