"""Copies Redmine as Debian installs it, with an instance of its own beside Debian's."""

import shutil
from pathlib import Path

shutil.copytree("/usr/share/redmine", "app", symlinks=True)
for name in ("config/database.yml", "Gemfile.lock", "instances"):
    Path("app", name).unlink()
shutil.copyfile("/var/lib/redmine/Gemfile.lock", "app/Gemfile.lock")
instance = Path("app/instances/default")
for name in ("config", "files", "log", "public", "tmp/cache", "tmp/pids"):
    (instance / name).mkdir(parents=True)
Path("app/tmp").mkdir(exist_ok=True)
database = f"production:\n  adapter: sqlite3\n  database: {Path('redmine.sqlite3').resolve()}\n"
for folder in (instance / "config", Path("app/config")):
    (folder / "database.yml").write_text(database, "utf-8")
(instance / "config/secret_key.txt").write_text("kept for one run on loopback " + "6c1d2f0a" * 8)
