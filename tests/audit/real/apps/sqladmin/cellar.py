"""SQLAdmin over one table, with the kind of authentication that its documentation shows."""

import sys

import uvicorn
from sqladmin import Admin, ModelView
from sqladmin.authentication import AuthenticationBackend
from sqlalchemy import Column, Integer, String, create_engine
from sqlalchemy.orm import declarative_base
from starlette.applications import Starlette
from starlette.requests import Request

Base = declarative_base()
engine = create_engine("sqlite:///cellar.sqlite", connect_args={"check_same_thread": False})


class Wine(Base):
    __tablename__ = "wines"
    id = Column(Integer, primary_key=True)
    name = Column(String)


class WineAdmin(ModelView, model=Wine):
    column_list = (Wine.id, Wine.name)
    page_size = 1000


class Door(AuthenticationBackend):
    async def login(self, request: Request) -> bool:
        form = await request.form()
        if form["username"] != "alice" or form["password"] != sys.argv[2]:
            return False
        request.session.update({"user": "alice"})
        return True

    async def logout(self, request: Request) -> bool:
        request.session.clear()
        return True

    async def authenticate(self, request: Request) -> bool:
        return request.session.get("user") == "alice"


if __name__ == "__main__":
    Base.metadata.create_all(engine)
    app = Starlette()
    admin = Admin(app, engine, authentication_backend=Door("kept for one run on loopback 5d2c"))
    admin.add_view(WineAdmin)
    uvicorn.run(app, port=int(sys.argv[1]))
