"""Vowel, stop, fricative ...: which class a phone belongs to, from its label in ARPAbet or in IPA."""

import re
from collections.abc import Iterable

CLASSES = ("vowel", "stop", "affricate", "fricative", "nasal", "approximant", "other")

# ARPAbet with the TIMIT extensions.
ARPABET = {
    "vowel": "aa ae ah ao aw ax ax-h axr ay eh el em en eng er ey ih ix iy ow oy uh uw ux",
    "stop": "b d g k p t q bcl dcl gcl kcl pcl tcl",
    "affricate": "ch jh",
    "fricative": "dh f hh hv s sh th v z zh",
    "nasal": "m n ng nx",
    "approximant": "dx l r w y",
}
IPA = {
    "affricate": "tʃ dʒ tɕ dʑ ts dz tʂ dʐ pf",
    "vowel": "a e i o u y æ ɐ ɑ ɒ ɔ ə ɘ ɚ ɛ ɜ ɝ ɞ ɤ ɪ ɨ ɯ ɵ ø œ ɶ ʊ ʉ ʌ ʏ ᵻ",
    "stop": "p b t d k g ɡ c q ʔ ʈ ɖ ɟ ɢ",
    "fricative": "f v s z ʃ ʒ θ ð x ɣ h ɦ ç ʝ χ ʁ ʂ ʐ ɕ ʑ β ɸ ħ ʕ",
    "nasal": "m n ŋ ɲ ɳ ɴ ɱ",
    "approximant": "l ɹ r ɾ j w ʍ ɫ ʎ ɻ ɥ ʋ ɺ ɭ ʟ ʀ ⱱ ɰ ɬ ɮ",
}
OF_ARPABET = {label: name for name, labels in ARPABET.items() for label in labels.split()}
OF_IPA = {label: name for name, labels in IPA.items() for label in labels.split()}


def phone_classes(inventory: Iterable[str]) -> dict[str, str]:
    """The class of every label. One that is ARPAbet throughout is read as such, any other as IPA: `y` is a glide in the
    one and a vowel in the other. Stress and tie marks do not count; an IPA label goes by how it begins.
    """
    bare = {label: re.sub(r"[ˈˌ͜͡\d]", "", label) for label in inventory}
    if all(label.lower() in OF_ARPABET for label in bare.values()):
        return {label: OF_ARPABET[short.lower()] for label, short in bare.items()}
    return {label: OF_IPA.get(short[:2]) or OF_IPA.get(short[:1]) or "other" for label, short in bare.items()}
