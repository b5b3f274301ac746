"""Table of operations: name, parameters, whether it streams progress, and the function that does it.

An operation is an async function of a :class:`Call`; its parameters are a frozen dataclass, so that the request is
checked in one place and the OpenAPI file can't drift from the code.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sovereign_node.errors import ExitCode, NodeError

ReportProgress = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class NoParameters:
    """For operations that take nothing."""


@dataclass(frozen=True)
class Operation:
    """One entry of the table.

    Args:
        name: last part of the path.
        summary: one line for people.
        parameters: frozen dataclass of the request body.
        run: does it; gets the parameters and a function that reports progress.
        streams: the answer is NDJSON with progress lines.
    """

    name: str
    summary: str
    parameters: type[Any]
    run: Callable[[Any, ReportProgress], Awaitable[Any]]
    streams: bool = False


def parse_parameters(kind: type[Any], body: Any) -> Any:
    """Build the parameters ``kind`` from a decoded JSON body.

    Raises:
        NodeError: not an object, an unknown or missing name, or a value of the wrong type.
    """
    if not isinstance(body, dict):
        raise _bad_request("the body must be a JSON object")
    hints = typing.get_type_hints(kind)
    known = {item.name: item for item in dataclasses.fields(kind)}
    for name, value in body.items():
        if name not in known:
            raise _bad_request(f"unknown parameter {name!r}")
        if not _fits(hints[name], value):
            raise _bad_request(f"parameter {name!r} must be {describe_type(hints[name])}")
    for name, item in known.items():
        has_default = item.default is not dataclasses.MISSING or item.default_factory is not dataclasses.MISSING
        if name not in body and not has_default:
            raise _bad_request(f"parameter {name!r} is missing")
    return kind(**body)


def describe_type(kind: Any) -> str:
    """Return a type in words, for messages."""
    schema = json_schema(kind)
    return str(schema.get("type", "one of several types"))


def json_schema(kind: Any) -> dict[str, Any]:
    """Return the JSON schema of a parameter's type."""
    if isinstance(kind, types.UnionType):
        options = [json_schema(item) for item in typing.get_args(kind) if item is not type(None)]
        return {**options[0], "nullable": True} if len(options) == 1 else {"anyOf": options}
    if typing.get_origin(kind) is list:
        return {"type": "array", "items": json_schema(typing.get_args(kind)[0])}
    names = {str: "string", int: "integer", bool: "boolean", float: "number"}
    return {"type": names[kind]}


def openapi_document(operations: dict[str, Operation], version: str) -> dict[str, Any]:
    """Return the OpenAPI 3.0 description of the table."""
    paths = {f"/api/v1/{item.name}": {"post": _describe(item)} for item in operations.values()}
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "Sovereign local API",
            "version": version,
            "description": "Loopback only. Streaming operations answer with lines of JSON: progress, then result.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Error": {
                    "type": "object",
                    "properties": {
                        "error": {
                            "type": "object",
                            "required": ["code", "message", "hint", "exit_code"],
                            "properties": {
                                "code": {"type": "string"},
                                "message": {"type": "string"},
                                "hint": {"type": "string"},
                                "exit_code": {"type": "integer"},
                            },
                        }
                    },
                }
            },
        },
        "security": [{"token": []}],
    }


def _describe(operation: Operation) -> dict[str, Any]:
    hints = typing.get_type_hints(operation.parameters)
    items = dataclasses.fields(operation.parameters)
    required = [
        item.name
        for item in items
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    schema: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {item.name: json_schema(hints[item.name]) for item in items},
    }
    if required:
        schema["required"] = required
    content = "application/x-ndjson" if operation.streams else "application/json"
    return {
        "operationId": operation.name,
        "summary": operation.summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "200": {"description": "done", "content": {content: {}}},
            "default": {
                "description": "it failed",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }


def _fits(kind: Any, value: Any) -> bool:
    if isinstance(kind, types.UnionType):
        return any(_fits(item, value) for item in typing.get_args(kind))
    if kind is type(None):
        return value is None
    if typing.get_origin(kind) is list:
        return isinstance(value, list) and all(_fits(typing.get_args(kind)[0], item) for item in value)
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind


def _bad_request(message: str) -> NodeError:
    return NodeError("bad_request", message, "see docs/api/openapi.json", ExitCode.USAGE)


def error_document(error: NodeError) -> dict[str, Any]:
    """Return the one shape that errors have in the API and in ``--json``."""
    return {
        "error": {
            "code": error.code,
            "message": error.message,
            "hint": error.hint,
            "exit_code": int(error.exit_code),
        }
    }
