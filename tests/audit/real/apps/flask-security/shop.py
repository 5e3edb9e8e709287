"""Flask-Security as its quick start has it, with password change and reset, and one form."""

import sys

from flask import Flask, redirect, render_template_string, request
from flask_security import (
    Security,
    SQLAlchemyUserDatastore,
    auth_required,
    current_user,
    hash_password,
)
from flask_security.models import fsqla_v3
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import CSRFProtect

app = Flask(__name__)
app.config.update(
    SECRET_KEY="kept for one run on loopback 4f1a9c0e7b",
    SECURITY_PASSWORD_SALT="27182818284590452353602874713526624977",
    SECURITY_CHANGEABLE=True,
    SECURITY_RECOVERABLE=True,
    SECURITY_SEND_PASSWORD_CHANGE_EMAIL=False,
    SECURITY_SEND_PASSWORD_RESET_EMAIL=False,
    SECURITY_EMAIL_VALIDATOR_ARGS={"check_deliverability": False},
    SQLALCHEMY_DATABASE_URI="sqlite:///shop.sqlite",
    MAIL_SUPPRESS_SEND=True,
    TESTING=False,
)
CSRFProtect(app)
db = SQLAlchemy(app)
fsqla_v3.FsModels.set_db_info(db)


class Role(db.Model, fsqla_v3.FsRoleMixin):
    pass


class User(db.Model, fsqla_v3.FsUserMixin):
    motto = db.Column(db.String(80), default="")


datastore = SQLAlchemyUserDatastore(db, User, Role)
app.security = Security(app, datastore)
PAGE = """<title>Shop</title><p>Hello {{ current_user.email }}: {{ current_user.motto }}</p>
<form method="post" action="/motto">
<input type="hidden" name="csrf_token" value="{{ csrf_token() }}">
<input name="motto"><button>Save</button></form>
<form method="post" action="{{ url_for_security('logout') }}">
<input type="hidden" name="csrf_token" value="{{ csrf_token() }}"><button>Log out</button></form>"""


@app.route("/")
@auth_required()
def home():
    return render_template_string(PAGE)


@app.route("/motto", methods=["POST"])
@auth_required()
def motto():
    current_user.motto = request.form["motto"]
    db.session.commit()
    return redirect("/")


if __name__ == "__main__":
    if sys.argv[1] == "make":
        with app.app_context():
            db.create_all()
            for name, password in zip(("alice", "mallory"), sys.argv[2:], strict=True):
                datastore.create_user(
                    email=f"{name}@site.example", password=hash_password(password)
                )
            db.session.commit()
    else:
        app.run("127.0.0.1", int(sys.argv[2]))
