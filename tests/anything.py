"""What property tests are given: whatever JSON can hold, and configs with a few fields changed to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

numbers = st.one_of(st.integers(-4, 300), st.sampled_from([-(2**63), 2**31, 10**30]), st.floats())
scalars = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8))
json_values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=8,
)


def one_line(refusal: Exception) -> None:
    """Check what people are told: one line."""
    assert str(refusal)
    assert "\n" not in str(refusal)


def changed(config: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The config with up to three of its fields, or fields it has not, set to anything; inside groups as well."""
    paths = st.sampled_from(list(_paths(config)))
    change = st.tuples(st.one_of(paths, st.tuples(st.text(max_size=8))), json_values)
    return st.lists(change, max_size=3).map(lambda changes: _apply(config, changes))


def _paths(config: Mapping[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for key, value in config.items():
        found.append((*above, key))
        if isinstance(value, Mapping):
            found += _paths(value, (*above, key))
    return found


def _apply(config: Mapping[str, Any], changes: list[tuple[tuple[str, ...], Any]]) -> dict[str, Any]:
    result: dict[str, Any] = _copy(config)
    for path, value in changes:
        group: Any = result
        for key in path[:-1]:
            group = group.get(key) if isinstance(group, dict) else None
        if isinstance(group, dict):
            group[path[-1]] = value
    return result


def _copy(config: Any) -> Any:
    return {key: _copy(value) for key, value in config.items()} if isinstance(config, Mapping) else config
