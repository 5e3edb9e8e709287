"""Writes the configuration: two users, and one application that does not exist."""

import json
import sys
from pathlib import Path

users = [{"user": n, "pass": p} for n, p in zip(("alice", "mallory"), sys.argv[1:], strict=True)]
app = {"serverURL": "http://127.0.0.1:9/parse", "appId": "a", "masterKey": "b", "appName": "Shop"}
Path("dashboard.json").write_text(json.dumps({"apps": [app], "users": users}), "utf-8")
