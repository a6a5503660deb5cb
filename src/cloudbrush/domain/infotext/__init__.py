"""The "parameters" text of an image: written for a generation, read from anyone's image (specification 5).

prompt, any number of lines
Negative prompt: any number of lines
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x512, ...
"""

from cloudbrush.domain.infotext.labels import NEGATIVE_PROMPT, PROMPT
from cloudbrush.domain.infotext.reading import parse, to_generation_fields, to_img2img_fields
from cloudbrush.domain.infotext.syntax import quote, unquote
from cloudbrush.domain.infotext.writing import Hashes, write

__all__ = [
    "NEGATIVE_PROMPT",
    "PROMPT",
    "Hashes",
    "parse",
    "quote",
    "to_generation_fields",
    "to_img2img_fields",
    "unquote",
    "write",
]
