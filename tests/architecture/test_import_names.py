"""Our top-level import names are plain words: no dependency may bring the same."""

from importlib.metadata import packages_distributions


def test_no_dependency_provides_our_import_names() -> None:
    providers = packages_distributions()

    for name in ("agent", "controller", "protos", "simulations"):
        assert set(providers.get(name, ["muster"])) == {"muster"}
