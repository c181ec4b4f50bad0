"""Live pictures: cameras, streams, pipes, and files at their own pace, tagged while they are shown.

``source.py`` says what may be opened for an address, and nothing else is. ``live_child.py`` runs in a decoder process:
it opens a source (``opening.py``), places its frames in time (``stream_frames.py``) and cuts them into sliding windows
(``sliding.py``). ``connection.py`` is the parent's end of that process, ``inbox.py`` keeps the newest window for the
model, and ``watch.py`` classifies, and connects again when a stream is lost.
"""
