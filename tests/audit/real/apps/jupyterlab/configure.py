"""Writes the configuration with a hashed password, as `jupyter server password` does."""

import json
import sys
from pathlib import Path

from jupyter_server.auth import passwd

said = {"IdentityProvider": {"hashed_password": ""}, "PasswordIdentityProvider": {}}
said["PasswordIdentityProvider"]["hashed_password"] = passwd(sys.argv[1])
del said["IdentityProvider"]
Path("jupyter_server_config.json").write_text(json.dumps(said))
