"""Which pictures are trained on, and how their captions are read."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import setting

TAG_OPERATIONS = (
    "prepend",
    "append",
    "remove",
    "replace",
    "rename",
    "regex",
    "keep",
    "deduplicate",
    "sort",
    "drop_traits",
)
CAPTION_SOURCES = ("files", "none")
CAPTION_SEPARATORS = ("auto", "comma", "space")


@dataclass(frozen=True)
class TagEdit:
    """One edit of the captions as training sees them; the caption files stay as they are."""

    operation: str = setting(help="What to do with the tags.", choices=TAG_OPERATIONS)
    tags: str = setting("", help="The tags, separated by commas; for regex a pattern.")
    replacement: str = setting("", help="For replace, rename and regex: what stands in the place of the tags.")
    percent: float = setting(
        80,
        help="For drop_traits: tags on at least this share of the captions go, but for the named ones.",
        ge=0,
        le=100,
        unit="%",
    )


@dataclass(frozen=True)
class DatasetConfig:
    """Which pictures are trained on, at which sizes and with which captions."""

    folder: str = setting(help="Folder of pictures, or of kohya's N_name folders (N repeats each).")
    resolution: int = setting(
        512, help="Training area: pictures are brought to about resolution × resolution.", ge=64, le=4096, unit="px"
    )
    batch_size: int = setting(1, help="Pictures per training step; more is smoother and needs more memory.", ge=1)
    enable_bucket: bool = setting(True, help="Keep each picture's aspect ratio, in buckets of like-shaped pictures.")
    min_bucket_reso: int = setting(256, help="Shortest side of a bucket.", ge=64, unit="px", advanced=True)
    max_bucket_reso: int = setting(1024, help="Longest side of a bucket.", ge=64, unit="px", advanced=True)
    bucket_reso_steps: int = setting(64, help="Bucket sides are multiples of this.", ge=8, unit="px", advanced=True)
    bucket_no_upscale: bool = setting(False, help="Never enlarge a picture to fill its bucket.", advanced=True)
    trigger_word: str = setting("", help="Put before every caption; the word that calls the LoRA's subject.")
    tag_edits: tuple[TagEdit, ...] = setting((), help="Edits of the captions as training sees them.", advanced=True)
    shuffle_caption: bool = setting(False, help="Shuffle the comma-separated tags anew each epoch.")
    keep_tokens: int = setting(0, help="Tags at the front that shuffling leaves in place.", ge=0)
    caption_dropout_rate: float = setting(
        0.0, help="Share of steps that see an empty caption instead.", ge=0, le=1, advanced=True
    )
    bad_pictures: str = setting(
        "skip", help="What to do with a file that cannot be read as a picture.", choices=("skip", "stop"), advanced=True
    )
    caption_dropout_every_n_epochs: int = setting(
        0, help="Every n-th epoch sees empty captions only; 0 is never.", ge=0, advanced=True
    )
    caption_tag_dropout_rate: float = setting(
        0.0, help="Share of the tags that are left out at each visit; kept tokens stay.", ge=0, le=1, advanced=True
    )
    keep_tokens_separator: str = setting(
        "",
        help="A mark such as ||| in captions: what stands before it stays in front; wins over keep_tokens.",
        advanced=True,
    )
    secondary_separator: str = setting(
        "", help="A mark such as ;;; between tags that stay together when tags are shuffled.", advanced=True
    )
    captions: str = setting(
        "files", help="none trains without captions: the trigger word alone, or nothing.", choices=CAPTION_SOURCES
    )
    flip_aug: bool = setting(
        False, help="Mirror half of the visits at random; not for subjects that are not symmetrical."
    )
    alpha_mask: bool = setting(
        False, help="Transparent parts of a picture count less in the loss, or not at all.", advanced=True
    )
    masks_dir: str = setting(
        "",
        help="Folder of masks named like their pictures: black parts do not count in the loss "
        "(kohya: conditioning_data_dir with masked_loss).",
        advanced=True,
    )
    reg_data_dir: str = setting(
        "",
        help="Folder of regularisation pictures in N_class folders: what the model should not forget.",
        advanced=True,
    )
    caption_prefix: str = setting("", help="Put before every caption, with a space between.", advanced=True)
    caption_suffix: str = setting("", help="Put behind every caption, with a space between.", advanced=True)
    enable_wildcard: bool = setting(
        False,
        help="Captions of several lines give one of them at each visit, and {red|blue} one of the words.",
        advanced=True,
    )
    token_warmup_min: int = setting(
        1, help="Tags that the warm-up begins with, besides the kept ones.", ge=0, advanced=True
    )
    token_warmup_step: float = setting(
        0.0,
        help="Step from which all tags are seen, more and more of them before; below 1 a share of the run, 0 is no "
        "warm-up.",
        ge=0,
        advanced=True,
    )
    weighted_captions: bool = setting(
        False,
        help="Read (word:1.2), (word) and [word] in captions and preview prompts as weights, as kohya does.",
        advanced=True,
    )
    caption_variants: int = setting(
        16,
        help="Different captions of a picture that chance may make, each encoded once, while no text encoder is "
        "trained: more is more variety, fewer saves time and memory; 0 is a new one at each visit.",
        ge=0,
        advanced=True,
    )
    caption_separator: str = setting(
        "auto",
        help="What parts the tags in caption files: auto takes spaces where all of a folder's are a booru's tags, with "
        "underscores and no commas, as imgbrd-grabber writes them.",
        choices=CAPTION_SEPARATORS,
        advanced=True,
    )
