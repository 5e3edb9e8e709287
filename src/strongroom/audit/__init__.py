"""Black-box checks of the session security of any running site, ours or not.

The site is seen through HTTP only: nothing in here knows Strongroom, beyond the codec of cookies.
The one rule above all: a check passes only when its own probe was first seen to work on this very
site; otherwise it says that it could not tell, and why (docs/decisions/0080-a-pass-is-earned.md).

`wire` and its transports carry requests; `browser` is what a person's browser does with them;
`pages` reads HTML; `target` is what the developer said, `discovery` what was found, `recipes` how a
form or a JSON request is sent again; `checks` is one module per family; `run` joins them.
"""

from __future__ import annotations
