"""The models that a dataset's runs left, over HTTP: which there are, and which are in use."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter

from tunemill.curator_api import draft_store, model_store
from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Here
from tunemill.curator_api.datasets import ThisDataset
from tunemill.curator_api.problems import responses
from tunemill.curator_api.run_payloads import ModelAliasOut, ModelOut, ModelsOut

router = APIRouter(prefix="/v1/datasets/{name}", tags=["runs"])


@router.get("/models", responses=responses(404, 422))
def list_models(name: ThisDataset, here: Here, _person: Person) -> ModelsOut:
    """The models made from a dataset, the newest first, and the names in use: `candidate` is the run that succeeded last."""
    draft_store.find(here.registry, here.project, name)
    aliases = model_store.find_aliases(here.registry, here.project, name)
    found = model_store.find_models(here.registry, here.project, name)
    return ModelsOut(
        aliases=[ModelAliasOut.model_validate(one) for one in aliases],
        models=[_model(run, [one.alias for one in aliases if one.run_id == run["run_id"]]) for run in found],
    )


def _model(run: Mapping[str, Any], aliases: Sequence[str]) -> ModelOut:
    recipe = run["recipe"] or {}
    return ModelOut(
        run_id=run["run_id"],
        version=run["version"],
        status=run["status"],
        method=str(recipe.get("method", "")),
        base=str(recipe.get("base", "")),
        artefact_url=run["artefact_url"],
        finished_ms=run["finished_ms"],
        aliases=list(aliases),
    )
