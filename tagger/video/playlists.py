"""Recognises files that only refer to other files. They are never opened, whatever their extension."""

REFERRING_FORMATS = frozenset(
    name
    for line in (
        "alias_pix brender_pix concat dash hls image2 image2pipe imf vobsub webm_dash_manifest",
        "rtp rtsp sap sdp alsa fbdev kmsgrab lavfi v4l2 video4linux2 x11grab",
    )
    for name in line.split()
)
"""FFmpeg's formats that open other files, devices or network connections."""


def playlist_kind(head: bytes) -> str | None:
    """Returns the kind of playlist that starts with ``head``; None if it is not a playlist that FFmpeg would follow."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"#EXTM3U"):
        return "a playlist (HLS, m3u8)"
    if text.startswith(b"ffconcat version"):
        return "a playlist (ffconcat)"
    if b"<mpd" in text[:1024].lower():
        return "a playlist (DASH, mpd)"
    if text.startswith(b"v=0") and b"\nc=IN IP" in text:
        return "a session description (SDP)"
    return None
