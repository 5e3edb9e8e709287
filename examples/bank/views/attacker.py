"""The attacker's desk. It is there with the development policy only (see `app.py`)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.exceptions import HTTPException
from starlette.responses import Response

from examples.bank.attacks.catalogue import ATTACKS, PROMISES
from examples.bank.attacks.stage import Stage
from examples.bank.desk import AtDesk

router = APIRouter(prefix="/desk")


def at_stage(desk: AtDesk) -> Stage:
    """The stage, where there is one."""
    if desk.stage is None:
        raise HTTPException(404)
    return desk.stage


AtStage = Annotated[Stage, Depends(at_stage)]


@router.get("")
async def attacks(desk: AtDesk) -> Response:
    return desk.page("attacks.html", attacks=ATTACKS.values())


@router.post("/{name}")
async def play(desk: AtDesk, stage: AtStage, name: str) -> Response:
    attack = ATTACKS.get(name)
    if attack is None:
        raise HTTPException(404)
    return desk.go(f"/desk/played/{stage.keep(name, await attack.play(stage))}")


@router.get("/played/{transcript}")
async def played(desk: AtDesk, stage: AtStage, transcript: str) -> Response:
    kept = stage.kept(transcript)
    if kept is None:
        return desk.go("/desk")
    return desk.page(
        "played.html",
        attack=ATTACKS[kept.attack],
        transcript=kept.transcript,
        promises=PROMISES,
        others=[each for each in ATTACKS.values() if each.name != kept.attack],
    )
