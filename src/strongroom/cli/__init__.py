"""The `strongroom` command: keys, sessions, policy and store, from the operator's side.

`__main__` finds the command and turns failures into exit codes; each of `keys`, `sessions`,
`policy` and `store` is one module; `settings` finds out where things are; `output` is all that
reaches a terminal. argparse, not a dependency: docs/decisions/0003-argparse.md.
"""
