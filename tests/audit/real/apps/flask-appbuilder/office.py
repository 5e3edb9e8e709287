"""Flask-AppBuilder with nothing but its own views of users and roles."""

import os

from flask import Flask
from flask_appbuilder import AppBuilder
from flask_appbuilder.utils.legacy import get_sqla_class
from flask_wtf import CSRFProtect

app = Flask(__name__)
app.config.update(
    SECRET_KEY="kept for one run on loopback 83be21d7f0",
    SQLALCHEMY_DATABASE_URI=f"sqlite:///{os.getcwd()}/office.sqlite",
)
CSRFProtect(app)
db = get_sqla_class()(app)
with app.app_context():
    AppBuilder(app, db.session)
