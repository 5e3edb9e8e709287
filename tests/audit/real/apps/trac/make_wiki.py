"""Makes a Trac environment in which people sign in with a form, from a file of passwords."""

import configparser
import subprocess
import sys
from pathlib import Path

scripts, alice, mallory = sys.argv[1:]
subprocess.run(
    [f"{scripts}/trac-admin", "wiki", "initenv", "Wiki", "sqlite:db/trac.db"], check=True
)
path = Path("wiki/conf/trac.ini")
config = configparser.RawConfigParser()
config.read(path)
plugins = "acct_mgr.api.accountmanager acct_mgr.web_ui.loginmodule acct_mgr.web_ui.accountmodule"
plugins += " acct_mgr.db.sessionstore acct_mgr.pwhash.htdigesthashmethod"
for each in plugins.split():
    config.set("components", each, "enabled") if config.has_section("components") else (
        config.add_section("components") or config.set("components", each, "enabled")
    )
config.set("components", "trac.web.auth.loginmodule", "disabled")
config.add_section("account-manager")
config.set("account-manager", "password_store", "SessionStore")
config.set("account-manager", "hash_method", "HtDigestHashMethod")
with path.open("w") as file:
    config.write(file)
make = """
import sys
from trac.env import open_environment
from acct_mgr.api import AccountManager
manager = AccountManager(open_environment("wiki"))
for name, password in zip(("alice", "mallory"), sys.argv[1:]):
    manager.set_password(name, password)
"""
subprocess.run([sys.executable, "-c", make, alice, mallory], check=True)
