"""Writes the configuration, with the password hashed as qBittorrent does it."""

import base64
import hashlib
import os
import sys
from pathlib import Path

port, password = sys.argv[1:]
salt = os.urandom(16)
key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 100_000)
pair = ":".join(base64.b64encode(each).decode() for each in (salt, key))
folder = Path("profile/qBittorrent/config")
folder.mkdir(parents=True)
(folder / "qBittorrent.conf").write_text(
    "[LegalNotice]\nAccepted=true\n\n[Preferences]\n"
    f"WebUI\\Address=127.0.0.1\nWebUI\\Port={port}\nWebUI\\Username=alice\n"
    f'WebUI\\Password_PBKDF2="@ByteArray({pair})"\nWebUI\\MaxAuthenticationFailCount=0\n',
    "utf-8",
)
