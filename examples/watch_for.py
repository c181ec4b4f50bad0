"""Keeps a picture each time an action begins before a camera: python watch_for.py SOURCE LABEL FOLDER [CONFIDENCE]."""

import contextlib
import sys
from collections import deque
from pathlib import Path

import tagger


def main() -> None:
    """Watches the source. An action begins when its confidence is high and was not in the window before."""
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    source, label, folder = sys.argv[1:4]
    threshold = float(sys.argv[4]) if len(sys.argv) == 5 else 0.5
    model = tagger.load_model()
    if label not in model.labels:
        sys.exit(f"the model does not know {label!r}; it knows {', '.join(model.labels)}")
    Path(folder).mkdir(parents=True, exist_ok=True)
    newest: deque[bytes] = deque(maxlen=1)  # the last picture, a JPEG
    is_there = False
    with contextlib.closing(tagger.watch(source, model=model, on_picture=newest.append)) as segments:
        for segment in segments:
            confidence = dict(zip(segment.top_labels, segment.top_confidences, strict=True)).get(label, 0.0)
            was_there, is_there = is_there, confidence >= threshold
            if is_there and not was_there:
                picture = Path(folder) / f"{segment.ended_at.astimezone():%Y-%m-%d_%H-%M-%S_%f}.jpg"
                picture.write_bytes(newest[-1])
                print(f"{segment.start_s:8.2f} s  {label} {confidence:.2f}  {picture}", flush=True)


if __name__ == "__main__":
    main()
