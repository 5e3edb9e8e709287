"""Copies DokuWiki as Debian installs it, with a configuration and two users of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

shutil.copytree("/usr/share/dokuwiki", "www")
shutil.copytree("/var/lib/dokuwiki/data", "data", ignore_dangling_symlinks=True)
shutil.copytree("/etc/dokuwiki", "conf", ignore_dangling_symlinks=True)
Path("conf/local.php").write_text(
    "<?php\n$conf['title'] = 'Wiki';\n$conf['useacl'] = 1;\n$conf['superuser'] = 'alice';\n"
    f"$conf['savedir'] = '{Path('data').resolve()}';\n",
    "utf-8",
)
lines = []
for name, password in zip(("alice", "mallory"), sys.argv[1:], strict=True):
    code = "echo password_hash($argv[1], PASSWORD_BCRYPT);"
    hashed = subprocess.run(
        ["php", "-r", code, password], capture_output=True, text=True, check=True
    ).stdout
    lines.append(f"{name}:{hashed}:{name.title()}:{name}@site.example:user\n")
Path("conf/users.auth.php").write_text("".join(lines), "utf-8")
Path("conf/acl.auth.php").write_text("*\t@ALL\t1\n*\t@user\t8\n", "utf-8")
