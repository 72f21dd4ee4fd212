"""How the stages of a build hang together: who took rows from whom, first to last."""

from collections.abc import Mapping

from pipeline.store.objects import Store
from pipeline.store.refs import Ref
from pipeline.store.result import Result


def main_line(ref: Ref, store: Store) -> dict[str, Result]:
    """The stages that pass rows on, from the first to the last of a build."""
    results = ref.results(store)
    upstreams = wiring(results)
    line: list[str] = []
    name = next((name for name in reversed(results) if results[name].manifest.conserves), None)
    while name is not None:
        line.append(name)
        name = upstreams.get(name)
    return {name: results[name] for name in reversed(line)}


def wiring(results: Mapping[str, Result]) -> dict[str, str]:
    """Which earlier stage each one took its rows from.

    Manifests name their inputs as the recipe did that made them. Another recipe may have reused the
    stage under other names; then the earlier stage of the recorded content is the one.
    """
    upstreams: dict[str, str] = {}
    makers: dict[str, str] = {}
    contents: dict[str, str] = {}
    for name, result in results.items():
        source = result.manifest.inputs.get("upstream")
        if source is not None and contents.get(source.name) == source.digest:
            upstreams[name] = source.name
        elif source is not None and source.digest in makers:
            upstreams[name] = makers[source.digest]
        contents[name] = result.content_digest
        makers[contents[name]] = name
    return upstreams
