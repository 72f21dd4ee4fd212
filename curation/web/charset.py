"""The text of a web page: which encoding its bytes are in, and what they say in it.

The order is that of the HTML standard's encoding sniffing algorithm (13.2.3.2): byte order mark,
the charset of the HTTP header, a declaration within the first 1024 bytes, a default. Labels and
decoders are those of the WHATWG Encoding standard.
"""

import codecs
import re

# Encoding, "Names and labels" (https://encoding.spec.whatwg.org/#names-and-labels): Python's codec,
# then the labels that mean it. Several labels mean more than they say, because pages that are
# labelled so hold the larger set: gb2312 and gbk are read by gb18030's decoder, shift_jis is cp932,
# euc-kr is cp949, and iso-8859-1 and ascii are windows-1252.
_CODECS = """
utf-8: unicode-1-1-utf-8 unicode11utf8 unicode20utf8 utf-8 utf8 x-unicode20utf8
cp866: 866 cp866 csibm866 ibm866
iso8859-2: csisolatin2 iso-8859-2 iso-ir-101 iso8859-2 iso88592 iso_8859-2 latin2 l2
iso8859-3: csisolatin3 iso-8859-3 iso-ir-109 iso8859-3 iso88593 iso_8859-3 latin3 l3
iso8859-4: csisolatin4 iso-8859-4 iso-ir-110 iso8859-4 iso88594 iso_8859-4 latin4 l4
iso8859-5: csisolatincyrillic cyrillic iso-8859-5 iso-ir-144 iso8859-5 iso88595 iso_8859-5
iso8859-6: arabic asmo-708 csisolatinarabic ecma-114 iso-8859-6 iso-8859-6-e iso-8859-6-i
iso8859-6: iso-ir-127 iso8859-6 iso88596 iso_8859-6
iso8859-7: csisolatingreek ecma-118 elot_928 greek greek8 iso-8859-7 iso-ir-126 iso8859-7 iso_8859-7
iso8859-8: csisolatinhebrew hebrew iso-8859-8 iso-8859-8-e iso-8859-8-i iso8859-8 iso_8859-8 logical
iso8859-10: csisolatin6 iso-8859-10 iso-ir-157 iso8859-10 iso885910 latin6 l6
iso8859-13: iso-8859-13 iso8859-13 iso885913
iso8859-14: iso-8859-14 iso8859-14 iso885914
iso8859-15: csisolatin9 iso-8859-15 iso8859-15 iso885915 iso_8859-15 l9
iso8859-16: iso-8859-16
koi8-r: cskoi8r koi koi8 koi8-r koi8_r
koi8-u: koi8-ru koi8-u
mac-roman: csmacintosh mac macintosh x-mac-roman
cp874: dos-874 iso-8859-11 iso8859-11 iso885911 tis-620 windows-874
cp1250: cp1250 windows-1250 x-cp1250
cp1251: cp1251 windows-1251 x-cp1251
windows-1252: ansi_x3.4-1968 ascii cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 iso8859-1
windows-1252: iso88591 iso_8859-1 iso_8859-1:1987 latin1 l1 us-ascii windows-1252 x-cp1252
cp1253: cp1253 windows-1253 x-cp1253
cp1254: cp1254 csisolatin5 iso-8859-9 iso-ir-148 iso8859-9 iso88599 iso_8859-9 latin5 l5
cp1254: windows-1254 x-cp1254
cp1255: cp1255 windows-1255 x-cp1255
cp1256: cp1256 windows-1256 x-cp1256
cp1257: cp1257 windows-1257 x-cp1257
cp1258: cp1258 windows-1258 x-cp1258
mac-cyrillic: x-mac-cyrillic x-mac-ukrainian
gb18030: chinese csgb2312 csiso58gb231280 gb2312 gb_2312 gb_2312-80 gbk iso-ir-58 x-gbk gb18030
big5hkscs: big5 big5-hkscs cn-big5 csbig5 x-x-big5
euc-jp: cseucpkdfmtjapanese euc-jp x-euc-jp
iso2022-jp: csiso2022jp iso-2022-jp
cp932: csshiftjis ms932 ms_kanji shift-jis shift_jis sjis windows-31j x-sjis
cp949: cseuckr csksc56011987 euc-kr iso-ir-149 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601
cp949: windows-949
utf-16-be: unicodefffe utf-16be
utf-16-le: csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff utf-16 utf-16le
"""
_LABELS = {
    label: codec
    for codec, labels in (line.split(": ") for line in _CODECS.strip().splitlines())
    for label in labels.split()
}
# Encoding, "BOM sniff": these three. UTF-32 is no encoding of the web; its pages read as UTF-16.
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
)
# Python's cp1252 leaves 0x81, 0x8D, 0x8F, 0x90 and 0x9D undefined; the standard's windows-1252 maps
# them to the control characters of the same number, so that every byte is a character.
_WINDOWS_1252 = "".join(
    bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(256)
)
# Both forms of the declaration: <meta charset=x> and <meta content="text/html; charset=x">.
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w:.-]+)", re.IGNORECASE)
_META_PRESCAN_BYTES = 1024


def decode(page: bytes, charset: str | None) -> str:
    """The page's text; `charset` is the label in the HTTP header, if it has one.

    A page that is, or claims to be, UTF-8 has its malformed bytes read as windows-1252, so that
    neither a page in windows-1252 nor one with a stray byte loses a character. In other encodings
    malformed bytes become U+FFFD, as the standard has it.
    """
    # The mark wins over the header: what begins with one was written by an editor that meant it.
    for mark, codec in _BOMS:
        if page.startswith(mark):
            return page[len(mark) :].decode(codec, "replace")
    # The standard's default is windows-1252 or depends on the reader's locale. Ours reads either.
    codec = _codec(charset) or _declared_codec(page) or "utf-8"
    if codec == "utf-8":
        return page.decode("utf-8", _BYTES_AS_1252)
    if codec == "windows-1252":
        return codecs.charmap_decode(page, "strict", _WINDOWS_1252)[0]
    return page.decode(codec, "replace")


def _bytes_as_1252(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(_WINDOWS_1252[b] for b in error.object[error.start : error.end]), error.end


_BYTES_AS_1252 = "openwit-bytes-as-1252"
codecs.register_error(_BYTES_AS_1252, _bytes_as_1252)


def _codec(label: str | None) -> str | None:
    """Encoding, "get an encoding": the label without blanks around it, in whatever case.

    Quotes, which the standard does not allow, are common in headers. An unknown label is as none.
    """
    return _LABELS.get(label.strip().strip("\"'").lower()) if label else None


def _declared_codec(page: bytes) -> str | None:
    """HTML, "Prescan a byte stream to determine its encoding", without its parser of comments."""
    match = _META_CHARSET.search(page[:_META_PRESCAN_BYTES])
    codec = _codec(match[1].decode("ascii", "ignore")) if match else None
    # What could be read as ASCII to find the label is not UTF-16, whatever the label says; the
    # standard's prescan has the same step.
    return "utf-8" if codec and codec.startswith("utf-16") else codec
