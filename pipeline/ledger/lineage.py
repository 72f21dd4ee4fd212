"""How the stages of a build hang together: who took rows from whom, first to last."""

from collections.abc import Mapping

from pipeline.store.objects import Store
from pipeline.store.refs import Ref
from pipeline.store.result import Result


def main_line(ref: Ref, store: Store) -> dict[str, Result]:
    """The stages that pass rows on, from the first to the last of a build."""
    datasets = ref.datasets(store)
    upstreams = wiring(datasets)
    line: list[str] = []
    name = next((name for name in reversed(datasets) if datasets[name].manifest.conserves), None)
    while name is not None:
        line.append(name)
        name = upstreams.get(name)
    return {name: datasets[name] for name in reversed(line)}


def wiring(datasets: Mapping[str, Result]) -> dict[str, str]:
    """Which earlier stage each one took its rows from, as its recorded input digest tells."""
    upstreams: dict[str, str] = {}
    makers: dict[str, str] = {}
    for name, dataset in datasets.items():
        given = dataset.manifest.inputs.get("upstream", "")
        if given in makers:
            upstreams[name] = makers[given]
        makers[dataset.content] = name
    return upstreams
