"""What the API answers with about models. Times are Unix seconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

import msgspec
from pydantic import Field

from controller.registry.actions import ModelView, VersionView
from controller.web.views import Time


@dataclass(frozen=True, slots=True)
class VersionAnswer:
    """One immutable version of a model. ``manifest`` is what approvers sign for, read."""

    model: str
    version: int
    state: Annotated[
        str, Field(description="draft, validated, approved, published, recalled or rejected")
    ]
    reasons: Annotated[tuple[str, ...], Field(description="why it was rejected")]
    registered_at: Time
    registered_by: str
    manifest_sha256: str
    aliases: tuple[str, ...]
    waits_for: Annotated[
        str, Field(description="add, recall or renew, while signatures are waited for")
    ]
    signed_by: Annotated[tuple[str, ...], Field(description="key ids of those who have signed it")]
    manifest: Mapping[str, Any]

    @classmethod
    def of(cls, view: VersionView) -> Self:
        """What the registry's actions tell."""
        version, pending = view.version, view.pending
        return cls(
            version.model,
            version.version,
            version.state.value,
            version.reasons,
            version.registered_at,
            version.registered_by,
            version.manifest_sha256,
            view.aliases,
            "" if pending is None else pending.change.value,
            () if pending is None else pending.signed_by,
            msgspec.to_builtins(view.manifest, str_keys=True),
        )


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """A model, its approvers and its versions, ascending."""

    name: str
    description: str
    created_at: Time
    threshold: Annotated[int, Field(description="how many approvers must sign")]
    approvers: Annotated[Mapping[str, str], Field(description="names by key id")]
    aliases: Mapping[str, int]
    versions: tuple[VersionAnswer, ...]

    @classmethod
    def of(cls, view: ModelView) -> Self:
        """What the registry's actions tell."""
        model = view.model
        return cls(
            model.name,
            model.description,
            model.created_at,
            model.threshold,
            dict(model.approvers),
            dict(view.aliases),
            tuple(VersionAnswer.of(one) for one in view.versions),
        )
