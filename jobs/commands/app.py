"""The `openwit` command and its verbs. Every verb has --json and an exit code (see `guarded`)."""

from cyclopts import App

from jobs.commands.bench import bench
from jobs.commands.convert import convert
from jobs.commands.funnel import funnel
from jobs.commands.gc import gc
from jobs.commands.guarded import run_app, version
from jobs.commands.plan import plan
from jobs.commands.report import report
from jobs.commands.run import run
from jobs.commands.show import show
from jobs.commands.stage import stage_app
from jobs.commands.why import why

app = App(
    name="openwit",
    help="The open, explainable way to build CLIP: from web crawl to trained and evaluated model.",
    version=version,
    version_flags=["--version"],
    result_action="return_value",
)
for verb in (plan, run, show, funnel, why, report, gc, convert):
    app.command(verb)
app.command(stage_app(), name="stage")
app.command(bench)


def main() -> None:
    """The `openwit` command."""
    run_app(app)


if __name__ == "__main__":
    main()
