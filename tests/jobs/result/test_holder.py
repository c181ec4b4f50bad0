"""A holder has ended only when its process certainly has."""

import os
import subprocess
import sys

import pytest

from jobs.result.holder import has_ended, parse, this_process


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_this_process_has_not_ended() -> None:
    assert not has_ended(this_process())


def test_a_living_process_whose_start_is_unknown_has_not_ended() -> None:
    assert not has_ended(this_process() | {"process": 1, "process_start": None})


def test_a_process_whose_number_is_free_has_ended() -> None:
    assert has_ended(this_process() | {"process": ended_process()})


def test_a_process_whose_number_was_given_to_another_process_has_ended() -> None:
    assert has_ended(this_process() | {"process_start": 1})


@pytest.mark.parametrize("field", ["host", "boot", "pid_namespace"])
@pytest.mark.parametrize("is_missing", [True, False])
def test_a_process_elsewhere_cannot_be_known_to_have_ended(field: str, is_missing: bool) -> None:
    holder = this_process() | {"process": ended_process(), field: "other"}
    if is_missing:
        del holder[field]
    assert not has_ended(holder)


@pytest.mark.parametrize("process", [None, "7", 0, -1, 2.5, 10**30])
def test_a_number_that_is_no_process_is_not_known_to_have_ended(process: object) -> None:
    assert not has_ended(this_process() | {"process": process})


def test_a_holder_is_read_only_when_its_text_is_complete() -> None:
    assert parse('{"host": "a"}   \n') == {"host": "a"}
    assert [parse(text) for text in ("", "{", "[]", "null", '{"host": "a"')] == [None] * 5
    assert this_process()["process"] == os.getpid()
