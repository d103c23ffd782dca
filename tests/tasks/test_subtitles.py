"""Subtitles as players read them."""

from moshi_mlx.tasks.subtitles import clock, srt, vtt

LINES = [(0.0, 1.25, "Hello."), (3661.5, 3661.5, "a < b & c")]


def test_subrip_has_numbers_commas_and_blank_lines() -> None:
    assert srt(LINES) == (
        "1\n00:00:00,000 --> 00:00:01,250\nHello.\n\n2\n01:01:01,500 --> 01:01:01,580\na < b & c\n"
    )


def test_webvtt_has_its_header_points_and_escapes() -> None:
    assert vtt(LINES) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.250\nHello.\n\n01:01:01.500 --> 01:01:01.580\na &lt; b &amp; c\n"
    )


def test_a_rounded_second_carries_over() -> None:
    assert srt([(59.9996, 61.0, "x")]).splitlines()[1] == "00:01:00,000 --> 00:01:01,000"


def test_times_for_people() -> None:
    assert [clock(seconds) for seconds in (7.9, 754, 3723)] == ["0:07", "12:34", "1:02:03"]
