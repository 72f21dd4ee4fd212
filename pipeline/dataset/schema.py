"""Every column that a dataset of ours may have: its name, type, unit and a sentence on it.

Stages declare which of these they need and which they add; recipes are checked by it, manifests
record it, and the reference in the documentation is printed from it. A stage of somebody else's
declares columns of its own in the same way.
"""

import pyarrow as pa

from pipeline.dataset.column import Column
from pipeline.dataset.uid import UID_TYPE

# The pair, as a page gives it.
UID = Column("uid", UID_TYPE, "Identity: BLAKE2b-128 of url, NUL and caption as first seen.")
URL = Column("url", pa.string(), "Address of the picture, absolute.")
CAPTION = Column("caption", pa.string(), "The words that stand beside the picture.")
PAGE_URL = Column("page_url", pa.string(), "Address of the page that shows the picture.")
POSITION = Column("position", pa.int32(), "Place among the page's pictures; -1 for a lost page.")
CAPTION_SOURCE = Column("caption_source", pa.string(), "Where the page gave the words: alt, ...")
PAIR = (UID, URL, CAPTION, PAGE_URL, POSITION, CAPTION_SOURCE)

# What is found out about its caption.
RAW_CAPTION = Column("raw_caption", pa.string(), "The caption before repair; null if it is equal.")
LANGUAGE = Column("language", pa.string(), "Likeliest language (ISO 639, as lid.176 has it) or ''.")
LANGUAGE_SCORE = Column("language_score", pa.float32(), "Its probability.")
URL_COPIES = Column("url_copies", pa.int32(), "Rows that share the canonical URL.", "rows")
QUERY_IDS = Column(
    "query_ids", pa.list_(pa.uint32()), "Queries that the caption contains, ascending line numbers."
)
KEEP_PROBABILITY = Column("keep_probability", pa.float32(), "Chance that balancing keeps the pair.")

# A query, counted.
QUERY_ID = Column("query_id", pa.uint32(), "Line number of the query, from 0.")
COUNT = Column("count", pa.int64(), "Pairs whose caption contains the query.", "pairs")

# Its picture, as the network sent it, and where in the pool it lies.
SHA256 = Column("sha256", pa.binary(32), "SHA-256 of the picture's bytes: as sent, then as packed.")
HTTP_STATUS = Column("http_status", pa.int16(), "Status of the last answer.")
CONTENT_TYPE = Column("content_type", pa.string(), "What the server called it.")
FINAL_URL = Column("final_url", pa.string(), "Address after redirects.")
POOL_PART = Column("pool_part", pa.int32(), "Part of the pool that holds the picture.")
POOL_OFFSET = Column("pool_offset", pa.int64(), "Where it begins in that part's tar.", "bytes")
POOL_SIZE = Column("pool_size", pa.int32(), "How long it is.", "bytes")
POOL = (POOL_PART, POOL_OFFSET, POOL_SIZE)

# What decoding it shows.
WIDTH = Column("width", pa.int32(), "Width of the upright picture.", "pixels")
HEIGHT = Column("height", pa.int32(), "Height of the upright picture.", "pixels")
FORMAT = Column("format", pa.string(), "Format by its first bytes: jpeg, png, webp or gif.")
PHASH = Column("phash", pa.uint64(), "DCT perceptual hash; null if nothing was decoded.")
COLOURS = Column("colours", pa.binary(48), "Mean RGB colours of a 4 x 4 grid.")
IMAGE_COPIES = Column("image_copies", pa.int32(), "Rows of these bytes, on the one kept.", "rows")
NEAR_COPIES = Column("near_copies", pa.int32(), "Size of its group, on the one kept.", "rows")

# Two pictures that are nearly the same.
UID_A = Column("uid_a", UID_TYPE, "The smaller uid of the two.")
UID_B = Column("uid_b", UID_TYPE, "The larger uid of the two.")
DISTANCE = Column("distance", pa.int8(), "Bits in which their hashes differ.", "bits")
PIXELS_A = Column("pixels_a", pa.int64(), "Size of the first picture.", "pixels")
PIXELS_B = Column("pixels_b", pa.int64(), "Size of the second picture.", "pixels")
EDGES = (UID_A, UID_B, DISTANCE, PIXELS_A, PIXELS_B)

# Where a shard keeps it.
KEY = Column("key", pa.string(), "Key of the sample in the tar: the uid in hex.")
IMAGE_OFFSET = Column("image_offset", pa.int64(), "Where the picture begins in the tar.", "bytes")
IMAGE_SIZE = Column("image_size", pa.int32(), "How long the picture is.", "bytes")
TEXT_OFFSET = Column("text_offset", pa.int64(), "Where the caption begins in the tar.", "bytes")
TEXT_SIZE = Column("text_size", pa.int32(), "How long the caption is.", "bytes")
JSON_OFFSET = Column("json_offset", pa.int64(), "Where the facts begin in the tar.", "bytes")
JSON_SIZE = Column("json_size", pa.int32(), "How long the facts are.", "bytes")
SOURCE_SHA256 = Column("source_sha256", pa.binary(32), "SHA-256 of the bytes as sent.")
TOKENS = Column("tokens", pa.list_(pa.uint16()), "CLIP's ids of the caption, markers included.")
IMAGE_PLACE = (IMAGE_OFFSET, IMAGE_SIZE)
SIDECAR = (
    *(KEY, IMAGE_OFFSET, IMAGE_SIZE, TEXT_OFFSET, TEXT_SIZE, JSON_OFFSET, JSON_SIZE),
    *(WIDTH, HEIGHT, SHA256, SOURCE_SHA256, TOKENS),
)

# One answer of an evaluation.
SET = Column("set", pa.string(), "Name of the evaluation set.")
TASK = Column("task", pa.string(), "What was asked: zeroshot_classification or zeroshot_retrieval.")
SAMPLE_ID = Column("sample_id", pa.string(), "Key of the sample in its set.")
LABEL = Column("label", pa.int32(), "Index of the class that is right, or of the picture.")
PREDICTION = Column("prediction", pa.int32(), "Index of the class that was chosen; -1 if none.")
RANK = Column("rank", pa.int32(), "Place of what is right among the answers, from 0.")
MARGIN = Column("margin", pa.float64(), "Cosine of what is right less that of the best other.")
CORRECT = Column("correct", pa.bool_(), "Whether what is right came first.")
DIRECTION = Column("direction", pa.string(), "text: a picture looks for its caption; or image.")
ANSWER = (SET, TASK, SAMPLE_ID, LABEL, PREDICTION, RANK, MARGIN, CORRECT, DIRECTION)
REPORT_JSON = Column("json", pa.string(), "The report's figures, as one JSON object.")
