"""The file extensions of videos."""

VIDEO_EXTENSIONS = frozenset(
    f".{ending}"
    for line in (
        "264 3g2 3gp asf avi dav divx dv f4v flv gif insv lrv m1v m2p m2t m2ts m2v m4v mjpeg mjpg mkv mod mov mp4",
        "mpe mpeg mpg mpv mts mxf ogm ogv qt rm rmvb tod trp ts vob webm wmv y4m",
    )
    for ending in line.split()
)
