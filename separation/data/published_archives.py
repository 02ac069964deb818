"""Where the corpora are published: addresses, sizes, checksums."""

from typing import NamedTuple

from separation.data.download import Archive


class PublishedCorpus(NamedTuple):
    """Where a corpus can be obtained."""

    archives: dict[str, Archive]
    """By the names of its subsets."""
    needed: tuple[str, ...] = ()
    """The subsets that the recipes need; empty: all."""
    note: str = ""
    """What else to know; of a corpus without archives, how to obtain it."""


LIBRISPEECH = {  # SHA-256, bytes
    "dev-clean": ("76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3", 337_926_286),
    "dev-other": ("12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365", 314_305_928),
    "test-clean": ("39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23", 346_663_984),
    "test-other": ("d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29", 328_757_843),
    "train-clean-100": ("d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2", 6_387_309_499),
    "train-clean-360": ("146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf", 23_049_477_885),
    "train-other-500": ("ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2", 30_593_501_606),
}
MINI_LIBRISPEECH = {  # MD5, of two public data loaders that agree
    "train-clean-5": "5df7d4e78065366204ca6845bb08f490",
    "dev-clean-2": "6d7ab67ac6a1d2c993d050e16d61080d",
}
LIBRIMIX = "https://raw.githubusercontent.com/JorisCos/LibriMix/b898ca375c03e4039cdb3dbe3dd485aad58ec7d1/metadata"
LIBRI2MIX = {  # as git names the files of this commit
    "train-clean-100": "393234e6c9035dac4b83cd973fbb92da06ad0999",
    "train-clean-360": "6190d44fad70a6890237323b3d3e0a97325eaf3a",
    "dev-clean": "6d8f1058b9235f4606f591ad8dc7632b7e71a390",
    "test-clean": "ea28bb09d4f64e48bccb3649eec25091bd3d49ce",
}


def _of_librispeech(resource: int, subset: str, checksum: str, size: int = 0) -> Archive:
    """A subset as openslr.org publishes it; all of them unpack into one folder."""
    address = f"https://www.openslr.org/resources/{resource}/{subset}.tar.gz"
    return Archive(address, f"LibriSpeech/{subset}", f"LibriSpeech/{subset}", checksum, size)


CORPORA = {
    "librispeech": PublishedCorpus(
        {name: _of_librispeech(12, name, f"sha256:{digest}", size) for name, (digest, size) in LIBRISPEECH.items()},
        needed=("train-clean-100", "test-clean"),
    ),
    "mini_librispeech": PublishedCorpus(
        {name: _of_librispeech(31, name, f"md5:{digest}") for name, digest in MINI_LIBRISPEECH.items()}
    ),
    "vctk": PublishedCorpus(
        {
            "all": Archive(
                "https://datashare.is.ed.ac.uk/bitstream/handle/10283/3443/VCTK-Corpus-0.92.zip",
                target="VCTK-Corpus-0.92",
                checksum="sha256:f96258be9fdc2cbff6559541aae7ea4f59df3fcaf5cf963aae5ca647357e359c",
                size=11_747_302_977,
            )
        }
    ),
    "musdb18hq": PublishedCorpus(
        {
            "all": Archive(
                "https://zenodo.org/record/3338373/files/musdb18hq.zip",
                target="musdb18hq",
                checksum="sha256:baac80d0483c61d74b2e5f3be75fa557eec52898339e6aa45c1fa48833c5d21d",
            )
        },
        note="MUSDB18 is for academic use only.",
    ),
    "musdb18": PublishedCorpus(
        {
            "all": Archive(
                "https://zenodo.org/record/1117372/files/musdb18.zip",
                target="musdb18",
                checksum="md5:af06762477334799bfc5abf237648207",
                size=4_684_228_845,
            )
        },
        note="MUSDB18 is for academic use only.",
    ),
    "minilibrimix": PublishedCorpus(
        {
            "all": Archive(
                "https://zenodo.org/record/3871592/files/MiniLibriMix.zip", target="MiniLibriMix", inner="MiniLibriMix"
            )
        }
    ),
    "fsdd": PublishedCorpus(
        {
            "all": Archive(
                "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz",
                target="free-spoken-digit-dataset",
                inner="free-spoken-digit-dataset-1.0.10",
            )
        }
    ),
    "libri2mix": PublishedCorpus(
        {
            subset: Archive(
                f"{LIBRIMIX}/Libri2Mix/libri2mix_{subset}.csv",
                target=f"Libri2Mix-metadata/libri2mix_{subset}.csv",
                checksum=f"git:{blob}",
            )
            for subset, blob in LIBRI2MIX.items()
        },
        note="These are the gains. The speech is LibriSpeech's subset of each table's name: python scripts/download.py"
        f" librispeech subset=[{','.join(LIBRI2MIX)}]",
    ),
    "wsj0_2mix": PublishedCorpus(
        {},
        note="wsj0_2mix: can't be downloaded, since its speech has to be licensed. Get LDC93S6A, CSR-I (WSJ0) Complete,"
        " from the Linguistic Data Consortium (https://catalog.ldc.upenn.edu/LDC93S6A), and mix it by MERL's scripts"
        " (https://www.merl.com/demos/deep-clustering/create-speaker-mixtures.zip) or a Python port of them. Take the"
        " recordings of the first microphone (.wv1); those of the second (.wv2) cost some 4.5 dB",
    ),
    "wham": PublishedCorpus(
        {},
        note="wham: can't be downloaded, since its speech has to be licensed (see wsj0_2mix). Its noise is free (CC"
        " BY-NC 4.0): get that and the scripts that add it to WSJ0's mixtures from http://wham.whisper.ai",
    ),
}
