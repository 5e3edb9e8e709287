"""Makes a classic tracker on SQLite with two users; its configuration names its own address."""

import re
import subprocess
import sys
from pathlib import Path

scripts, port, alice, mallory = sys.argv[1:]


def admin(*words: str) -> None:
    subprocess.run([f"{scripts}/roundup-admin", "-i", "tracker", *words], check=True)


admin("install", "classic", "sqlite")
config = Path("tracker/config.ini")
text = config.read_text("utf-8")
text = re.sub(r"(?m)^#?web *=.*$", f"web = http://127.0.0.1:{port}/", text)
text = re.sub(r"(?m)^#?admin_email *=.*$", "admin_email = admin@site.example", text)
text = re.sub(r"(?m)^#?domain *=.*$", "domain = site.example", text, count=1)
config.write_text(text, "utf-8")
admin("initialise", "Admin-of-the-tracker-9")
for name, password in (("alice", alice), ("mallory", mallory)):
    address = f"address={name}@site.example"
    admin("create", "user", f"username={name}", f"password={password}", address, "roles=User")
