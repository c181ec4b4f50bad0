"""The videos that a test decodes."""

from pathlib import Path

import pytest

from tagger.isolation import DecoderProcess


def recorded_reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Returns a list to which the path of every video is added that is decoded from now on."""
    reads: list[Path] = []
    spans = DecoderProcess.spans

    def recording(self: DecoderProcess, path: Path, *arguments: object, **options: object) -> object:
        reads.append(path)
        return spans(self, path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(DecoderProcess, "spans", recording)
    return reads
