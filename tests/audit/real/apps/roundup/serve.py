"""Serves the tracker through Roundup's own WSGI application."""

import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

from roundup.cgi.wsgi_handler import RequestDispatcher


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


app = RequestDispatcher("tracker")
make_server("127.0.0.1", int(sys.argv[1]), app, Server).serve_forever()
