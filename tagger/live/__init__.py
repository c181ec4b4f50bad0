"""Live pictures: cameras, streams, pipes, and files at their own pace, tagged while they are shown.

``source.py`` says what may be opened for an address, and nothing else is. ``live_child.py`` runs in a decoder process:
it opens a source (``opening.py``, with ``hls_playlists.py`` for its playlists), places its frames in time
(``stream_frames.py``), cuts them into sliding windows (``sliding.py``), and makes pictures of them for people
(``jpeg.py``). ``ffmpeg_log.py`` finds out why a source was lost. ``connection.py`` is the parent's end of that process,
``inbox.py`` keeps the newest window for the model, and ``watch.py`` classifies, and connects again when a stream is
lost.
"""
