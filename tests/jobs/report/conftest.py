"""One small build and its page, for all tests of the report."""

import pytest

from tests.support.html import Document
from tests.support.reports import ReportedBuild, build_in


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> ReportedBuild:
    return build_in(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def page(built: ReportedBuild) -> Document:
    return Document(built.report.html)
