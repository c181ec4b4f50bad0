"""Text in XML 1.0."""

import re
from xml.sax.saxutils import escape

_UNKNOWN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML has no way to write."""


def known_to_xml(text: str) -> str:
    """Returns ``text`` with the replacement character for those that XML does not have."""
    return _UNKNOWN.sub("\ufffd", text)


def xml_text(text: str) -> str:
    """Returns ``text`` as the content of an element."""
    return escape(known_to_xml(text), {"\r": "&#13;"})
