"""A stand-in for Gradio that takes what 3.41.2, 4.40.0 and 6.31.0 all take, and no more; it records what is built.

COMMON holds the arguments of each constructor that `inspect.signature` gives in all three."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

_FIELD = "container elem_classes elem_id every interactive label min_width scale show_label value visible"
COMMON = {
    "Accordion": "elem_id label open visible",
    "Blocks": "analytics_enabled mode title",
    "Button": "elem_classes elem_id icon interactive link min_width scale size value variant visible",
    "Checkbox": f"{_FIELD} info",
    "CheckboxGroup": f"{_FIELD} choices info type",
    "Column": "elem_id min_width scale variant visible",
    "Dataframe": "col_count datatype elem_classes elem_id every headers interactive label latex_delimiters min_width "
    "row_count scale show_label type value visible wrap",
    "Dropdown": f"{_FIELD} allow_custom_value choices info max_choices multiselect type",
    "File": f"{_FIELD} file_count file_types height type",
    "Gallery": "allow_preview columns container elem_classes elem_id every height label min_width object_fit preview "
    "rows scale show_label value visible",
    "HTML": "elem_classes elem_id every label show_label value visible",
    "Image": f"{_FIELD} height image_mode streaming type width",
    "Number": f"{_FIELD} info maximum minimum precision step",
    "Row": "elem_id equal_height variant visible",
    "State": "value",
    "Tab": "elem_id id label",
    "Tabs": "elem_id selected visible",
    "Textbox": f"{_FIELD} autofocus info lines max_lines placeholder rtl text_align type",
}
_POSITIONAL = {"Accordion": "label", "Button": "value", "HTML": "value", "State": "value", "Tab": "label"}
_EVENTS = ("blur", "change", "click", "input", "load", "select", "submit", "upload")


class Event:
    """Something that can happen to a component; called, it records who listens."""

    def __init__(self, page: Page, component: Component | None, name: str):
        self._page, self._component, self._name = page, component, name

    def __call__(
        self, fn: Callable | None, inputs: Any = None, outputs: Any = None, *, js: str = "", api_name: Any = None
    ) -> SimpleNamespace:
        listening = SimpleNamespace(component=self._component, name=self._name, fn=fn, inputs=inputs, outputs=outputs)
        self._page.listening.append(listening)
        return SimpleNamespace(then=Event(self._page, self._component, "then"))


class Component:
    """Any of Gradio's, with the arguments it was made with as attributes."""

    def __init__(self, page: Page, kind: str, arguments: dict[str, Any]):
        unknown = set(arguments) - set(COMMON[kind].split())
        if unknown:
            raise TypeError(f"gr.{kind} takes {', '.join(sorted(unknown))} in some versions of Gradio only")
        self.kind = kind
        self.elem_id = arguments.get("elem_id")
        self.value = arguments.get("value")
        self.arguments = arguments
        for name in _EVENTS:
            setattr(self, name, Event(page, self, name))
        page.components.append(self)
        self.check({"__type__": "update", **arguments})

    def check(self, change: Any) -> None:
        """A list shows what it holds only: newer Gradios refuse every later event of a page where it does not."""
        if self.kind == "Dropdown" and isinstance(change, dict) and change.get("value"):
            choices = change.get("choices", self.arguments.get("choices"))
            assert self.arguments.get("allow_custom_value") or change["value"] in choices, (self.elem_id, change)

    def __enter__(self) -> Component:
        return self

    def __exit__(self, *_: Any) -> None:
        pass


class Page:
    """What stands in for the module `gradio`."""

    SelectData = SimpleNamespace

    def __init__(self) -> None:
        self.components: list[Component] = []
        self.listening: list[SimpleNamespace] = []

    def __getattr__(self, kind: str) -> Callable[..., Component]:
        if kind not in COMMON:
            raise AttributeError(kind)

        def make(*given: Any, **arguments: Any) -> Component:
            return Component(self, kind, {**({_POSITIONAL[kind]: given[0]} if given else {}), **arguments})

        return make

    @staticmethod
    def update(**values: Any) -> dict[str, Any]:
        return {**values, "__type__": "update"}

    def named(self, elem_id: str) -> Component:
        """The component with that id."""
        (found,) = (each for each in self.components if each.elem_id == elem_id)
        return found

    def values(self, **entered: Any) -> dict[Component, Any]:
        """Every component's value as an event is given it; entered: by id, without `lazylora_`."""
        given = {each: each.value for each in self.components}
        return {**given, **{self.named(f"lazylora_{name}"): value for name, value in entered.items()}}

    def happen(self, elem_id: str, event: str, given: dict[Component, Any], *more: Any) -> dict[str, Any]:
        """Have it happen, and give what it returns by ids; an event whose inputs are a list gets their values."""
        component = self.named(f"lazylora_{elem_id}")
        (heard,) = (each for each in self._heard(component, event))
        if isinstance(heard.inputs, set):
            answer = heard.fn({each: given[each] for each in heard.inputs}, *more)
        else:
            answer = heard.fn(*(given[each] for each in heard.inputs), *more)
        outputs = heard.outputs
        if not isinstance(answer, dict) or "__type__" in answer:
            answer = dict(zip(outputs, answer if isinstance(answer, tuple) else (answer,), strict=True))
        assert set(answer) <= set(outputs), "an event returned what is not among its outputs"
        for each, value in answer.items():
            each.check(value)
        return {str(each.elem_id).removeprefix("lazylora_"): value for each, value in answer.items()}

    def _heard(self, component: Component, event: str) -> Iterator[SimpleNamespace]:
        return (each for each in self.listening if each.component is component and each.name == event)
