"""Reads video: the reader interface, the readers, and the rule that chooses between them."""

from tagger.video.choose import choose_reader, open_video
from tagger.video.facts import VideoFacts, probe
from tagger.video.readers.reader import Frame, Reader

__all__ = ["Frame", "Reader", "VideoFacts", "choose_reader", "open_video", "probe"]
