"""The labels of a video as a sidecar file: XMP for catalogues, and NFO for media servers.

XMP: ISO 16684-1; its markers have the fields of https://developer.adobe.com/xmp/docs/XMPNamespaces/XMPDataTypes/Marker.
NFO: https://kodi.wiki/view/NFO_files/Movies, https://jellyfin.org/docs/general/server/metadata/nfo.
"""

from pathlib import PurePosixPath

from jobs.browse.exporting.exported import ExportedVideo, Span
from jobs.browse.exporting.texts.xml_text import xml_text
from tagger.errors import one_line

XMP_BEGIN = """\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:xmpDM="http://ns.adobe.com/xmp/1.0/DynamicMedia/">
"""

XMP_END = """\
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""


def xmp(video: ExportedVideo) -> str:
    """Returns the labels of a video as its subjects, and its spans as markers in milliseconds."""
    subjects = "".join(f"     <rdf:li>{xml_text(label)}</rdf:li>\n" for label in video.labels)
    markers = "".join(map(_marker, video.spans))
    return (
        f"{XMP_BEGIN}   <dc:subject>\n    <rdf:Bag>\n{subjects}    </rdf:Bag>\n   </dc:subject>\n"
        '   <xmpDM:Tracks>\n    <rdf:Bag>\n     <rdf:li rdf:parseType="Resource">\n'
        "      <xmpDM:trackName>vtag</xmpDM:trackName>\n      <xmpDM:trackType>Comment</xmpDM:trackType>\n"
        "      <xmpDM:frameRate>f1000</xmpDM:frameRate>\n      <xmpDM:markers>\n       <rdf:Seq>\n"
        f"{markers}       </rdf:Seq>\n      </xmpDM:markers>\n     </rdf:li>\n    </rdf:Bag>\n   </xmpDM:Tracks>\n"
        f"{XMP_END}"
    )


def nfo(video: ExportedVideo) -> str:
    """Returns the labels of a video as tags of a film, whose title is the name of the file without its ending."""
    title = xml_text(one_line(PurePosixPath(video.video).stem))
    tags = "".join(f"  <tag>{xml_text(label)}</tag>\n" for label in video.labels)
    return (
        f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<movie>\n  <title>{title}</title>\n{tags}</movie>\n'
    )


def _marker(span: Span) -> str:
    start = round(span.start_s * 1000)
    length = max(1, round(span.end_s * 1000) - start)
    return (
        '        <rdf:li rdf:parseType="Resource">\n'
        f"         <xmpDM:startTime>{start}</xmpDM:startTime>\n         <xmpDM:duration>{length}</xmpDM:duration>\n"
        f"         <xmpDM:name>{xml_text(span.label)}</xmpDM:name>\n"
        f"         <xmpDM:comment>confidence {span.confidence:.2f}</xmpDM:comment>\n        </rdf:li>\n"
    )
