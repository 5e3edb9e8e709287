"""pgAdmin's own configuration: server mode, everything in this folder."""

import os

SERVER_MODE = True
DATA_DIR = os.path.join(os.environ["WORK"], "data")
DEFAULT_SERVER = "127.0.0.1"
DEFAULT_SERVER_PORT = int(os.environ["PORT"])
MASTER_PASSWORD_REQUIRED = False
UPGRADE_CHECK_ENABLED = False
