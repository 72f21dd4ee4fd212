"""`extract`: candidate pairs from the images of web pages."""

from curation.web import extract
from pipeline.dataset.errors import UserError
from pipeline.stage import FileTask, Output, Read, Stage


def _extract(task: FileTask[extract.ExtractParams]) -> Output:
    with task.file.open() as source:
        try:
            return Output(extract.extract(source, task.file.name, task.params))
        except extract.NotAWarc as error:
            raise UserError(str(error)) from None


STAGE = Stage(
    name="extract",
    version=1,
    summary="Candidate pairs from the <img> tags of web pages in WARC files",
    params=extract.ExtractParams,
    shape=Read(_extract),
    adds=extract.ADDS,
    reasons=extract.ExtractReason,
    reads="pages",
)
