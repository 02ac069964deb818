"""What goes silently wrong with data, and then with scores, in sentences."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from separation.data.check.measure import Inspection, Measured, Scored, SumCheck, check_sums, decibels, of_files
from separation.data.corpora.corpus import SPLITS, TEST, TEST_UNKNOWN, TRAIN, Corpus, ListedMixture
from separation.data.corpora.file_corpus import named
from separation.data.mixtures import Data
from separation.data.utterances import Utterance
from separation.errors import InputError

log = logging.getLogger(__name__)

FAST = 20
"""Mixtures of each split that are checked before training."""
SILENT_DB = -60.0
"""In dB of full scale: a recording below is nearly silent."""
OFFSET, LARGEST_OFFSET = 0.1, 0.2
"""Of the RMS: from the first on, an offset is worth a remark; beyond the second, scores are of the offset too."""
NOISY_DB = -25.0
"""Speech is noisy if the median of its recordings' noise floors lies above. FSDD's median is -29 dB, although
its digits follow each other without pauses; the demo's voices, synthetic and fluent, have -25 dB without any noise. So
speech with pauses must be noisy to lie above; fluent speech may cost a remark too many."""


class Finding(NamedTuple):
    """Something that isn't as it should be, and what to do."""

    sentence: str
    is_wrong: bool
    """It makes scores wrong; otherwise it is a remark."""


def fast_check(data: Data) -> None:
    """What shows in less than a second, before training. Warns of a corpus that lists more or fewer mixtures than it
    should, or shares speakers that it shouldn't.

    Raises:
        InputError: of 20 mixtures of each split some aren't the sum of their sources.
    """
    store = data.train.store
    for finding in [*count_findings(data.corpus, data.lists), *speaker_findings(data.corpus, store.utterances)]:
        log.warning("%s", finding.sentence)
    sums = {}
    for split, rows in data.lists.items():
        short = [row for row in of_files(rows) if row.span is None]  # pieces of a long file take long to read
        count = min(FAST, len(short))
        chosen = [short[i * len(short) // count] for i in range(count)]
        sums[split] = list(check_sums(data.corpus, store, chosen))
    if wrong := [finding for finding in sum_findings(data.corpus, sums) if finding.is_wrong]:
        sentences = "; ".join(finding.sentence for finding in wrong)
        raise InputError(f"{sentences}; python scripts/check_data.py data=... shows all")
    if checked := sum(map(len, sums.values())):
        log.info("Data: %d mixtures checked, each the sum of its sources", checked)


def findings(inspection: Inspection) -> list[Finding]:
    """All that is wrong with a corpus, and remarks."""
    utterances = inspection.store.utterances
    return [
        *count_findings(inspection.corpus, inspection.lists),
        *sum_findings(inspection.corpus, inspection.sums),
        *damage_findings(inspection.recordings, inspection.store.folder),
        *duplicate_findings(utterances),
        *speaker_findings(inspection.corpus, utterances),
        *format_findings(inspection.formats, inspection.corpus.sample_rate),
        *recording_findings(inspection.recordings),
        *offset_findings(inspection.recordings),
        *scored_findings(inspection.scored),
        *(noise_findings(inspection.recordings) if inspection.formats else []),  # a synthesiser has no microphone
    ]


def count_findings(corpus: Corpus, lists: Mapping[str, Sequence[ListedMixture]]) -> list[Finding]:
    """Splits that list more or fewer mixtures than the corpus is said to."""
    return [
        Finding(
            f"{split}: lists {len(lists[split]):,} mixtures, not the published {count:,}; generate the corpus again, or"
            " compare no scores with published ones",
            is_wrong=True,
        )
        for split, count in corpus.published.items()
        if split in lists and len(lists[split]) != count
    ]


def sum_findings(corpus: Corpus, sums: Mapping[str, Sequence[SumCheck]]) -> list[Finding]:
    """Splits with mixtures that aren't the sum of their sources; the worst are named."""
    wrong_sums = []
    for split, checks in sums.items():
        wrong = sorted((check for check in checks if check.problem), key=lambda check: -check.error_db)
        if wrong:
            problems = named([check.problem for check in wrong])
            counts = f"{len(wrong):,} of {len(checks):,} checked"
            sentence = (
                f"{split}: mixtures that aren't the sum of their sources: {counts}: {problems}; generate them again"
            )
            wrong_sums.append(Finding(sentence, is_wrong=corpus.exact_sums))
    return wrong_sums


def damage_findings(recordings: Iterable[Measured], folder: Path) -> list[Finding]:
    """Recordings whose samples aren't those that were stored."""
    names = [recording.utterance.name for recording in recordings if recording.is_damaged]
    sentence = f"{folder}: damaged recordings: {len(names):,}: {named(names)}; remove it to build it again"
    return [Finding(sentence, is_wrong=True)] if names else []


def duplicates(utterances: Iterable[Utterance]) -> list[list[Utterance]]:
    """Recordings with the same samples, each group of them."""
    groups: dict[tuple[int, int, float], list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        # The level beside the checksum: of 100,000 recordings of one length two may well share 32 bits.
        groups[utterance.num_samples, utterance.crc32, utterance.rms].append(utterance)
    return [group for group in groups.values() if len(group) > 1]


def is_across(group: Iterable[Utterance]) -> bool:
    """Whether recordings belong to several splits."""
    return len({utterance.split for utterance in group}) > 1


def duplicate_findings(utterances: Iterable[Utterance]) -> list[Finding]:
    """Recordings that are there twice, which is wrong where it is in several splits."""
    groups: dict[bool, list[str]] = {True: [], False: []}
    for group in duplicates(utterances):
        groups[is_across(group)].append(" = ".join(f"{utterance.name} ({utterance.split})" for utterance in group))
    sentences = {
        True: "the same recordings are in several splits",
        False: "the same recordings are there under several names",
    }
    return [
        Finding(f"{sentences[across]}: {len(names):,}: {named(names)}; remove all but one", is_wrong=across)
        for across, names in groups.items()
        if names
    ]


def shared_speakers(utterances: Iterable[Utterance]) -> dict[tuple[str, str], list[str]]:
    """The speakers that any two splits share, sorted; splits without speakers are left out."""
    speakers: dict[str, set[str]] = defaultdict(set)
    for utterance in utterances:
        if utterance.speaker:
            speakers[utterance.split].add(utterance.speaker)
    splits = [split for split in SPLITS if split in speakers]
    return {(one, other): sorted(speakers[one] & speakers[other]) for one, other in combinations(splits, 2)}


def speaker_findings(corpus: Corpus, utterances: Iterable[Utterance]) -> list[Finding]:
    """Speakers of a split that should have its own."""
    unseen = corpus.unseen_test
    return [
        Finding(
            f"{one} and {other} should have no speaker in common, and have {len(names)}: {named(names, ', ')};"
            " take their recordings out of one of the two",
            is_wrong=True,
        )
        for (one, other), names in shared_speakers(utterances).items()
        if names and (other == TEST_UNKNOWN or (unseen and (one, other) == (TRAIN, TEST)))
    ]


def format_findings(formats: Counter[tuple[int, int]], sample_rate: int) -> list[Finding]:
    """Files of several rates or channels, or of too low a rate."""
    rates: Counter[int] = Counter()
    for (rate, _), count in formats.items():
        rates[rate] += count
    sentences = []
    if len(rates) > 1:
        shown = ", ".join(f"{rate} Hz: {count:,}" for rate, count in rates.most_common())
        sentences.append(
            f"the files have several sample rates ({shown}), and are brought to {sample_rate} Hz; is that meant?"
        )
    if low := sum(count for rate, count in rates.items() if rate < sample_rate):
        sentences.append(f"files below {sample_rate} Hz: {low:,}; they hold nothing of the upper frequencies")
    several = sum(count for (_, channels), count in formats.items() if channels > 1)
    if several:
        sentences.append(f"files with several channels, whose mean is taken: {several:,}; is each a single source?")
    return [Finding(sentence, is_wrong=False) for sentence in sentences]


def recording_findings(recordings: Sequence[Measured]) -> list[Finding]:
    """Clipped and nearly silent recordings."""
    clipped = [recording.utterance.name for recording in recordings if recording.is_clipped]
    silent = [recording.utterance.name for recording in recordings if is_silent(recording.utterance)]
    sentences = []
    if clipped:
        share = f"{len(clipped):,} ({len(clipped) / len(recordings):.1%})"
        sentences.append(
            f"clipped recordings: {share}: {named(clipped)}; convert them again, not as loud, or remove them"
        )
    if silent:
        title = f"nearly silent recordings (below {SILENT_DB:g} dB of full scale)"
        sentences.append(f"{title}: {len(silent):,}: {named(silent)}; listen to them, or remove them")
    return [Finding(sentence, is_wrong=False) for sentence in sentences]


def offset_findings(recordings: Iterable[Measured]) -> list[Finding]:
    """Recordings around another value than zero."""
    shifted = [recording for recording in recordings if recording.offset > OFFSET]
    largest = max((recording.offset for recording in shifted), default=0.0)
    names = named([recording.utterance.name for recording in shifted])
    sentence = (
        f"recordings with an offset above {OFFSET:g} of their RMS: {len(shifted):,}, up to {largest:.2f}: {names}; an"
        " offset is easy to separate, and counts as speech in every score (oracles too): remove the means"
    )
    return [Finding(sentence, is_wrong=largest > LARGEST_OFFSET)] if shifted else []


def scored_findings(scored: Mapping[str, Sequence[Scored]]) -> list[Finding]:
    """Test mixtures that can't be scored."""
    found = []
    for split, mixtures in scored.items():
        bad = [f"{mixture.name}: {mixture.problem}" for mixture in mixtures if mixture.problem]
        if bad:
            count = f"{len(bad):,} of {len(mixtures):,}"
            sentence = f"{split}: mixtures that can't be scored, so that no mean holds them: {count}: {named(bad)}"
            found.append(Finding(f"{sentence}; mend or remove their recordings", is_wrong=True))
    return found


def is_silent(utterance: Utterance) -> bool:
    """Whether a recording is nearly silent."""
    return decibels(utterance.rms) < SILENT_DB


def noise_findings(recordings: Iterable[Measured]) -> list[Finding]:
    """A high noise floor of speech."""
    floors = np.array([recording.noise_floor_db for recording in recordings if recording.utterance.speaker])
    floors = floors[np.isfinite(floors)]
    if not len(floors) or np.median(floors) <= NOISY_DB:
        return []
    sentence = (
        f"the recordings are noisy: their quietest moments lie at {np.median(floors):.1f} dB of their speech (median;"
        f" clean speech: below {NOISY_DB:g} dB); listen to some. If it is WSJ0: was it made from the first microphone"
        " (.wv1)? The second (.wv2) costs some 4.5 dB"
    )
    return [Finding(sentence, is_wrong=False)]
