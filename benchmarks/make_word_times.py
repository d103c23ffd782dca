"""Makes benchmarks/word_times.json: when the words of spoken sentences begin, and in which pieces they are
written.

    python benchmarks/make_word_times.py

Needs espeak-ng (its library says when words begin) and the packages numpy, sentencepiece and wordfreq, in any
environment.
The pieces are those of a vocabulary of 8000, as stt-1b has, trained on the commonest words of English and French.
"""

import ctypes
import io
import json
import re
import tempfile
from pathlib import Path

import numpy as np
import sentencepiece
import wordfreq

PATH = Path(__file__).parent / "word_times.json"
VOCABULARY = 8000
COMMON = 60_000  # words of each language
RATES = (120, 150, 175)  # "words a minute" of espeak-ng, whose own is 175; it counts long words
SENTENCES = """\
Good morning, did you sleep well last night?
I was thinking that we could take the train to the coast on Saturday.
The weather report says it will rain in the afternoon, so bring a coat.
Could you tell me how to get from the station to the museum, please?
She told me that her brother has moved to a small town near the mountains.
No, I don't think so, but thank you very much for asking.
We had dinner at the new Italian restaurant, and it was better than I expected.
My computer has become so slow that I make coffee while it starts.
The meeting on Thursday has been moved to ten o'clock because of the holiday.
What I like most about this city is that you can walk everywhere.
He bought three tickets for the concert before they were sold out.
If you turn left after the bridge, you'll see a bakery with a red door.
The doctor said that I should rest for a week and drink plenty of water.
Yesterday evening we watched a documentary about the history of bread.
It takes about forty minutes by bicycle, or fifteen by bus.
I forgot my umbrella in the library again, it must be the fourth time.
They are building a school where the old factory used to be.
Can you hear me now? The connection was terrible a moment ago.
The children were so excited that they didn't want to go to bed.
Let me check the calendar and call you back before noon.
In the second half of the year our sales grew by twelve percent.
Most people don't know that octopuses have three hearts.
She plays the violin in an orchestra, and she teaches at the university.
We should probably ask someone who has done this before.
The government announced a new programme for renewable energy this week.
I'd rather stay at home tonight, I have been travelling all month.
Put the flour and the sugar in a bowl, then add the eggs one by one.
His explanation was complicated, but the idea behind it is simple.
There is a small island in the middle of the lake where birds nest.
Please remember to lock the back door when you leave the office.
The train from Edinburgh was delayed because of snow on the tracks.
I have never understood why anybody would want to live on a boat.
You can pay by card, but the parking machine takes only coins.
After the storm the whole village helped to repair the roof of the church.
She laughed, shook her head, and said that it was out of the question.
Our neighbours have a dog that barks at every passing car.
The photographs from the expedition were lost for almost a hundred years.
I'm afraid I can't come to the party, my flight leaves early on Sunday.
Do you remember the name of the actor who played the captain?
Scientists have measured how quickly the glacier is moving towards the sea.
""".splitlines()


class Event(ctypes.Structure):
    """`espeak_EVENT` of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


WORD = 1  # espeakEVENT_WORD


class Speaker:
    """espeak-ng, for the times of words alone."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libespeak-ng.so.1")
        self._rate = self._library.espeak_Initialize(2, 0, None, 0)  # synchronous, into a callback
        assert self._rate > 0, "espeak-ng does not start"
        self._starts: list[tuple[int, float]] = []  # (character, seconds)
        self._samples = 0
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(Event))
        self._callback = kind(self._take)  # kept, for the library calls it
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_SetVoiceByName(b"en")

    def times(self, sentence: str, rate: int) -> tuple[list[tuple[str, float]], float]:
        """Return the words with the seconds at which they begin, and the seconds of all."""
        self._library.espeak_SetParameter(1, rate, 0)
        self._starts, self._samples = [], 0
        text = sentence.encode()
        self._library.espeak_Synth(text, len(text) + 1, 0, 1, 0, 1, None, None)
        seconds = self._samples / self._rate
        matches = list(re.finditer(r"\S+", sentence))
        known: dict[int, float] = {}  # word -> seconds
        latest = -1
        for place, time in self._starts:
            word = next((n for n, match in enumerate(matches) if match.start() <= place < match.end()), -1)
            if word > latest:  # the end of a clause is an event, too
                known[word] = time
                latest = word
        # It speaks some words as one ("in the"): what lies between known times is shared out by letters.
        places = [matches[word].start() for word in known] + [len(sentence)]
        times = np.interp([match.start() for match in matches], places, [*known.values(), seconds])
        return [(match[0], round(float(time), 3)) for match, time in zip(matches, times, strict=True)], seconds

    def _take(self, wav: int | None, count: int, events: "ctypes._Pointer[Event]") -> int:
        self._samples += count
        index = 0
        while events[index].type:
            if events[index].type == WORD:
                self._starts.append((events[index].text_position - 1, events[index].audio_position / 1000))
            index += 1
        return 0


def vocabulary() -> sentencepiece.SentencePieceProcessor:
    """Train the pieces, each word counted as often as it is used."""
    model = io.BytesIO()
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as table:
        for language in ("en", "fr"):
            for word in wordfreq.top_n_list(language, COMMON):
                count = round(1e8 * wordfreq.word_frequency(word, language))
                if count and word.replace("'", "").isalpha():
                    for form in (word, word.capitalize()):
                        table.write(f"{form}\t{count if form == word else max(1, count // 10)}\n")
        table.flush()
        sentencepiece.SentencePieceTrainer.train(
            input=table.name,
            input_format="tsv",
            model_writer=model,
            model_type="bpe",
            vocab_size=VOCABULARY,
            byte_fallback=True,
            user_defined_symbols=[*".,?!-"],
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=3,
            minloglevel=2,
        )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def main() -> None:
    speaker, pieces = Speaker(), vocabulary()
    utterances = []
    for sentence in SENTENCES:
        spoken = [speaker.times(sentence, rate) for rate in RATES]
        utterances.append(
            {
                "words": [word for word, _ in spoken[0][0]],
                "pieces": [pieces.encode(word) for word, _ in spoken[0][0]],
                "starts": {
                    rate: [time for _, time in words] for rate, (words, _) in zip(RATES, spoken, strict=True)
                },
                "seconds": {rate: round(seconds, 3) for rate, (_, seconds) in zip(RATES, spoken, strict=True)},
            }
        )
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in utterances)
    PATH.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    words = sum(len(one["words"]) for one in utterances)
    print(f"{len(utterances)} utterances, {words} words")
    print(f"{sum(len(word) for one in utterances for word in one['pieces']) / words:.2f} pieces a word")
    for rate in RATES:
        print(f"{rate}: {words / sum(one['seconds'][rate] for one in utterances):.2f} words a second")


if __name__ == "__main__":
    main()
