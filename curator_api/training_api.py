"""A dataset's training policy over HTTP: on what it is trained by itself, and how."""

from fastapi import APIRouter

from tunemill.curator_api import draft_store, training_policies
from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.datasets import ThisDataset
from tunemill.curator_api.errors import NotFound
from tunemill.curator_api.problems import responses
from tunemill.curator_api.run_payloads import PolicyIn, PolicyOut
from tunemill.curator_api.training_policies import Policy
from tunemill.registry.tables import now_ms

router = APIRouter(prefix="/v1/datasets/{name}/training", tags=["runs"])


@router.get("", responses=responses(404, 422))
def get_policy(name: ThisDataset, here: Here, _person: Person) -> PolicyOut:
    """When the dataset is trained on by itself, and what waits; 404 where it is trained on by hand only."""
    found = policy_of(here, name)
    if found is None:
        raise NotFound(f"the dataset {name!r} has no training policy: it is trained on by hand only")
    return found


@router.put("", responses=responses(404, 422))
def put_policy(name: ThisDataset, wanted: PolicyIn, here: Here, person: Person) -> PolicyOut:
    """Have every new version trained on, or whatever an alias is given to, once nothing new came for `quiet_s`: a burst is one run.

    A version that is published with a recipe of its own starts that run at once, and none by the policy.
    """
    draft_store.find(here.registry, here.project, name)
    policy = Policy(
        name=name,
        train_on=wanted.on,
        recipe=wanted.recipe,
        quiet_s=wanted.quiet_s,
        priority=wanted.priority,
        by=person,
        updated_ms=now_ms(),
    )
    return _out(training_policies.put(here.registry, here.project, policy))


@router.delete("", status_code=204, responses=responses(404, 422))
def delete_policy(name: ThisDataset, here: Here, person: Person) -> None:
    """Train by hand only; what waits is not trained on either."""
    if not training_policies.remove(here.registry, here.project, name, by=person):
        raise NotFound(f"the dataset {name!r} has no training policy")


def policy_of(curator: Curator, name: str) -> PolicyOut | None:
    """The policy of a dataset, if it has one.

    Raises:
        NotFound: there is no such dataset.
    """
    draft_store.find(curator.registry, curator.project, name)
    policy = training_policies.find(curator.registry, curator.project, name)
    return None if policy is None else _out(policy)


def _out(policy: Policy) -> PolicyOut:
    return PolicyOut(
        on=policy.train_on,
        recipe=policy.recipe,
        quiet_s=policy.quiet_s,
        priority=policy.priority,
        due_ms=policy.due_ms,
        due_version=policy.due_version,
        by=policy.by,
        updated_ms=policy.updated_ms,
    )
