"""JSON schema (draft 7) of option classes, with which editors complete and check YAML files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeAlias, Union, get_args

from rlop.config.annotations import bare, is_mapping, is_sequence, kind_of, marker, members_of
from rlop.config.files import to_dict
from rlop.config.help import summary, term_table
from rlop.config.ranges import Choice, Formerly, NonEmpty, Range, Terms
from rlop.config.schema import describe, hints_of, is_required, options_of

Schema: TypeAlias = dict[str, Any]

_DRAFT = "http://json-schema.org/draft-07/schema#"
_SCALARS: dict[object, Schema] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    str: {"type": "string"},
    Path: {"type": "string"},
    NoneType: {"type": "null"},
}
# Text such as 1e-4, a number to the reader of configurations but not to every YAML editor.
_NUMERIC_TEXT: Schema = {"type": "string", "pattern": "^[-+0-9._eE]+$"}


class SchemaWriter:
    """Write schemas; nested option classes become definitions, each written once."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}

    def document(self, schema: Schema, title: str) -> Schema:
        """Return a complete schema with the definitions that it refers to."""
        return {"$schema": _DRAFT, "title": title, **schema, "definitions": self.definitions}

    def of_class(self, cls: type) -> Schema:
        """Return the schema of an option class: its properties, and no others."""
        properties: dict[str, Schema] = {}
        for name, item in options_of(cls).items():
            properties[name] = self._property(item, hints_of(cls)[name])

        schema: Schema = {
            "type": "object",
            "description": summary(cls),
            "properties": properties,
            "additionalProperties": False,
        }

        required = [name for name, item in options_of(cls).items() if is_required(item)]
        return {**schema, "required": required} if required else schema

    def _property(self, item: Field[object], hint: object) -> Schema:
        schema = self.of_annotation(hint)
        if "$ref" in schema:  # draft 7 ignores keys next to a reference
            schema = {"allOf": [schema]}

        about: Schema = {}
        if describe(item):
            about["description"] = describe(item)
        if item.default is not MISSING and not is_dataclass(item.default):
            about["default"] = to_dict(item.default)
        return {**schema, **about}

    def reference(self, cls: type) -> Schema:
        """Return a reference to the definition of an option class."""
        name = cls.__qualname__
        if name not in self.definitions:
            self.definitions[name] = {}  # stops the recursion of a class that refers to itself
            self.definitions[name] = self.of_class(cls)
        return {"$ref": f"#/definitions/{name}"}

    def of_annotation(self, hint: object) -> Schema:
        """Return the schema of an annotation."""
        choice, terms = marker(hint, Choice), marker(hint, Terms)
        if choice is not None:
            return self._of_choice(choice)
        if terms is not None:
            return self._of_terms(terms)

        kind = kind_of(hint)
        if isinstance(kind, type) and is_dataclass(kind):
            return self.reference(kind)

        if kind is Union:
            return {"anyOf": [self.of_annotation(member) for member in members_of(hint)]}
        if kind is Literal:
            former = marker(hint, Formerly)
            return {"enum": [*get_args(bare(hint)), *(former.names if former else ())]}

        if is_sequence(hint):
            return self._of_sequence(hint)
        if is_mapping(hint):
            _, item = get_args(bare(hint)) or (str, object)
            return {"type": "object", "additionalProperties": self.of_annotation(item)}
        return _of_scalar(hint)

    def _of_sequence(self, hint: object) -> Schema:
        items = get_args(bare(hint))
        schema: Schema = {"type": "array"}
        has_fixed_length = kind_of(hint) is tuple and Ellipsis not in items

        if has_fixed_length:
            schema["items"] = [self.of_annotation(item) for item in items]
            schema |= {"minItems": len(items), "maxItems": len(items)}
        elif items:
            schema["items"] = self.of_annotation(items[0])
        return {**schema, "minItems": 1} if marker(hint, NonEmpty) else schema

    def _of_choice(self, choice: Choice) -> Schema:
        """Return the schema of `name` or `{name: {option: value}}`."""
        options: dict[str, Schema] = {}
        for name, cls in choice.table.items():
            options[name] = {"anyOf": [self.reference(cls), {"type": "null"}]}

        with_options: Schema = {
            "type": "object",
            "properties": options,
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
        }
        return {"anyOf": [{"enum": list(choice.table)}, with_options]}

    def _of_terms(self, terms: Terms) -> Schema:
        """Return the schema of a mapping of terms; a name with a colon or slash takes anything."""
        properties: dict[str, Schema] = {}
        for name, part in term_table(terms).items():
            number = {"anyOf": [_of_scalar(float), {"type": "array", "items": _of_scalar(float)}]}

            with_options: Schema = {"type": "object"}
            if isinstance(part, type) and is_dataclass(part):
                with_options = self.of_class(part)
                with_options["properties"] = {terms.scale: number, **with_options["properties"]}
            with_options["required"] = [terms.scale]
            properties[name] = {
                "description": summary(part),
                "anyOf": [*number["anyOf"], with_options],
            }

        name = f"{terms.scale}s of terms"
        self.definitions[name] = {
            "type": "object",
            "properties": properties,
            "patternProperties": {"[:/]": {}},
            "additionalProperties": False,
        }
        return {"$ref": f"#/definitions/{name.replace(' ', '%20')}"}

    def one_of_classes(self, classes: Mapping[str, type], key: str, default: str) -> Schema:
        """Return the schema of a mapping whose `key` names the class of its other keys.

        Args:
            classes: name -> option class.
            key: the key that holds the name; an import path takes any other keys.
            default: the class if the key is omitted.
        """
        rules = []
        for name, cls in classes.items():
            then = self.of_class(cls)
            then["properties"] = {key: {"const": name}, **then["properties"]}
            condition: Schema = {"properties": {key: {"const": name}}}
            if name != default:
                condition["required"] = [key]
            rules.append({"if": condition, "then": then})

        names: Schema = {"anyOf": [{"enum": list(classes)}, {"type": "string", "pattern": ":"}]}
        return {"type": "object", "properties": {key: names}, "allOf": rules}


def _of_scalar(hint: object) -> Schema:
    schema = dict(_SCALARS.get(bare(hint), {}))
    limits = marker(hint, Range)
    if limits is not None and limits.low is not None:
        schema["exclusiveMinimum" if limits.low_open else "minimum"] = limits.low
    if limits is not None and limits.high is not None:
        schema["exclusiveMaximum" if limits.high_open else "maximum"] = limits.high
    return {"anyOf": [schema, _NUMERIC_TEXT]} if bare(hint) is float else schema
