"""Two overlapping requests against session libraries: what is lost, revived or adopted.

    make races                       us on every store, beside the peers; one table
    make races ARGS="--only strongroom --json"

Every library is used as its own documentation says, in process; the requests that overlap are held
at a gate inside the application, so each race is played in one order, the bad one. What cannot be
installed or started is named, not dropped in silence.
"""
