"""What a session costs a request: ours beside the peers, in one run.

    make bench-quick                 a minute or two: in process, ours and every peer
    make bench                       more rounds
    make bench-served                under uvicorn or granian
    make bench-page                  all that docs/performance.md shows
    make bench ARGS="--only Starlette --cpu --json"

rows.py      what is compared: each row an application, and the one without sessions that it is
             compared with
asgi.py, wsgi.py, djangos.py, sockets.py   those applications: the same four pages everywhere
sites.py     calling an application in process
rounds.py    the measurement: many short turns, all rows taking turns in every round
stored.py    what a Valkey server is asked, and what it keeps
tables.py    what is printed
served.py, serving.py   the same rows behind a real server
storms.py    readers beside sign-ins, revocations and a sweep
growth.py    how a request's cost grows
hot.py, instructions.py   the hot path's processor instructions
page.py, svg.py   the documentation's page and its pictures

Each figure is a difference within one round: the row's turn less the turn of the same framework
without sessions, a few milliseconds apart, so that whatever else the machine does meets both. The
median of all rounds is printed, with the half of the rounds that lies around it. On a machine that
is busy with other things, `--cpu` counts only the time that this process had a processor: right for
what waits for nobody (memory, SQLite's reads, cookies), too little for what asks a server.
"""
