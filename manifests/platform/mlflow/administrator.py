"""Give MLflow's administrator the password in the Secret, before the server starts.

MLflow itself takes it for its very first start alone. A registry that was restored from a backup has the password of
its time, and nobody could log in with the Secrets of a new control plane. It runs in MLflow's own image, and hashes as
MLflow does.
"""

import argparse
import os
import sqlite3
from configparser import ConfigParser
from contextlib import closing
from pathlib import Path

from werkzeug.security import check_password_hash, generate_password_hash


def main() -> None:
    """Run the command, and print what was done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configuration", type=Path, help="basic_auth.ini, which names the database and the account")
    configuration = ConfigParser()
    configuration.read_string(parser.parse_args().configuration.read_text(encoding="utf-8"))
    settings = configuration["mlflow"]
    database = Path(settings["database_uri"].removeprefix("sqlite:///"))
    print(set_password(database, settings["admin_username"], os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"]))


def set_password(database: Path, username: str, password: str) -> str:
    """Set the password of an account that exists, unless it has it already, and describe what was done."""
    if not database.is_file():
        return f"no {database}: MLflow makes {username} with the Secret's password"
    with closing(sqlite3.connect(database)) as connection, connection:
        found = connection.execute("SELECT password_hash FROM users WHERE username = ?", (username,)).fetchone()
        if found is None:
            return f"no {username} in {database}: MLflow makes it with the Secret's password"
        if check_password_hash(found[0], password):
            return f"{username} has the Secret's password"
        changed = (generate_password_hash(password), username)
        connection.execute("UPDATE users SET password_hash = ? WHERE username = ?", changed)
    return f"{username} has the Secret's password now, and had another one"


if __name__ == "__main__":
    main()
