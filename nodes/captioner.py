"""DatasetPictures and CaptionDataset: captions by any node of ComfyUI that makes a text of a picture."""

from __future__ import annotations

from collections.abc import Sequence

from comfy_api.latest import io, ui

from ..trainer_core.config import DatasetConfig
from ..trainer_core.data.captions import parse_tags
from ..trainer_core.data.examples import scan
from ..trainer_core.data.pictures import read_picture
from ..trainer_core.errors import DataError
from ..trainer_core.tagging.choosing import combined_caption
from ..trainer_core.tagging.config import MODES
from ..trainer_core.tagging.history import written_caption
from .caption_actions import ACTION_HELP, ACTIONS, check_action, shown_or_written, undone
from .errors import plainly
from .pictures import to_image
from .wires import CATEGORY, Dataset


class DatasetPictures(io.ComfyNode):
    """A dataset's pictures, one after the other, for a captioner of the user's choice."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LazyLoRA_DatasetPictures",
            display_name="Dataset Pictures (LazyLoRA)",
            category=CATEGORY,
            description="A dataset's pictures as a list: the nodes behind it run once for each of them.",
            inputs=[Dataset.Input("dataset", tooltip="From LoadDataset.")],
            outputs=[
                io.Image.Output(
                    "pictures", display_name="pictures", is_output_list=True, tooltip="Each picture, whole."
                ),
                io.String.Output(
                    "captions", display_name="captions", is_output_list=True, tooltip="Each caption as it is now."
                ),
            ],
        )

    @classmethod
    @plainly
    def execute(cls, dataset: DatasetConfig) -> io.NodeOutput:
        examples = scan(dataset).examples
        pictures = [to_image([read_picture(each.path)]) for each in examples]
        return io.NodeOutput(pictures, [each.caption for each in examples])


class CaptionDataset(io.ComfyNode):
    """Captions from any node as those of the dataset's pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LazyLoRA_CaptionDataset",
            display_name="Caption Dataset (LazyLoRA)",
            category=CATEGORY,
            description="Takes a text for each of Dataset Pictures' pictures, shown or written into the caption files.",
            inputs=[
                Dataset.Input("dataset", tooltip="The one whose pictures were captioned."),
                io.String.Input(
                    "captions", force_input=True, tooltip="A text for each picture, from a captioner's node."
                ),
                io.Combo.Input("action", options=list(ACTIONS), optional=True, tooltip=ACTION_HELP),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    optional=True,
                    tooltip="With captions that are there: overwrite, append or prepend what is new, or keep them.",
                ),
            ],
            outputs=[
                Dataset.Output("dataset_out", display_name="dataset", tooltip="The dataset, with its captions."),
                io.String.Output("text", display_name="text", tooltip="What was shown, written or undone."),
            ],
            is_input_list=True,
            is_output_node=True,
        )

    @classmethod
    @plainly
    def execute(
        cls,
        dataset: Sequence[DatasetConfig],
        captions: Sequence[str],
        action: Sequence[str] = (ACTIONS[0],),
        mode: Sequence[str] = (MODES[0],),
    ) -> io.NodeOutput:
        (config,) = dataset
        check_action(config, action[0])
        if action[0] == "undo":
            said = undone(config)
            return io.NodeOutput(config, said, ui=ui.PreviewText(said))
        examples = scan(config).examples
        if len(captions) != len(examples):
            raise DataError(
                f"{len(captions)} captions came for {len(examples)} pictures; wire Dataset Pictures of the same "
                "dataset through the captioner"
            )
        new = {
            example: combined_caption(written_caption(example), parse_tags(" ".join(text.split())), mode[0])
            for example, text in zip(examples, captions)
        }
        said = "\n".join(shown_or_written(config, new, action[0], "captioned"))
        return io.NodeOutput(config, said, ui=ui.PreviewText(said))
