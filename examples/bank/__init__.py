"""Tern & Holloway, a small private bank: what an application with Strongroom looks like.

FastAPI, Jinja, plain CSS, no JavaScript. `make demo` runs it. To read it, begin with `app.py`,
then `views/signing.py` and `views/devices.py`: that is where the sessions are.

A real bank would also throttle guesses, offer a second factor and a way back in for people who
forgot their password. None of that is here.
"""
