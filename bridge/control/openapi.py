"""The OpenAPI 3.1 document of the control API: paths written here, schemas made from the structs that the code uses."""

from dataclasses import dataclass, replace
from typing import Any

import msgspec

from bridge import __version__
from bridge.control import questions
from bridge.control.questions import LINES
from bridge.control.schema import (
    EventView,
    Explanation,
    PlanView,
    Problem,
    PublicationList,
    PublicationView,
    PublishRequest,
    Status,
    SweptView,
)
from bridge.control.selection import Selection

PREFIX = "/bridge/v1"
_JSON = "application/json"
_REFERENCE = "/publications/{reference}"

_Struct = type[msgspec.Struct]


@dataclass(frozen=True, slots=True)
class Answer:
    """One good answer: what it holds, by media type; nothing for an empty one."""

    says: str
    content: dict[str, tuple[_Struct, ...]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `errors` are the statuses that it answers with a `Problem`."""

    method: str
    path: str
    summary: str
    query: _Struct
    answers: dict[int, Answer]
    errors: tuple[int, ...] = ()


def _json(says: str, *kinds: _Struct) -> Answer:
    return Answer(says, {_JSON: kinds})


_TEXT: dict[str, tuple[_Struct, ...]] = {"text/plain": ()}
_ASKED = (
    Operation("get", "/healthz", "Say that the service answers.", questions.Nothing, {200: Answer("It does.", _TEXT)}),
    Operation(
        "get", "/readyz", "Say whether the first pass is through.", questions.Nothing,
        {200: Answer("It is.", _TEXT)}, (503,),
    ),
    Operation(
        "get", "/metrics", "Read the metrics, as Prometheus does.", questions.Nothing,
        {200: Answer("All metrics, in Prometheus' text format.", _TEXT)},
    ),
)  # fmt: skip
_PROBES = (*_ASKED, *(replace(one, method="head", answers={200: Answer("As for GET.", {})}) for one in _ASKED))

OPERATIONS = (
    Operation(
        "get", "/status", "Say how the service is.", questions.Nothing, {200: _json("The status.", Status)}, (400,),
    ),
    Operation(
        "get", "/publications", "List what is published or should be.", Selection,
        {200: _json("One page; header Link leads to the next.", PublicationList)}, (400,),
    ),
    Operation(
        "post", "/publications", "Publish an image now.", questions.Waiting,
        {
            200: Answer("With dryRun: what would be published. As lines: the progress.",
                        {_JSON: (PublicationList,), LINES: ()}),
            201: _json("It is published.", PublicationList),
            202: _json("With wait=false: it will be.", PublicationList),
        }, (400, 404, 409, 413, 503),
    ),
    Operation(
        "get", _REFERENCE, "Show one reference.", questions.Nothing,
        {200: _json("What it shows, or why it does not.", PublicationView)}, (400, 404),
    ),
    Operation(
        "delete", _REFERENCE, "Take a publication out of the tree.", questions.Withdrawal,
        {204: Answer("It is withdrawn.", {})}, (400, 404, 409),
    ),
    Operation(
        "get", "/explain", "Say why an image is or is not published.", questions.ImageNamed,
        {200: _json("What the rules decide for each of its names.", Explanation)}, (400, 404, 503),
    ),
    Operation(
        "post", "/resync", "Look at podman's whole store now, and try again what failed.", questions.Look,
        {200: _json("The status after it; with dryRun what would be done.", Status, PlanView)}, (400, 503),
    ),
    Operation(
        "post", "/gc", "Sweep what was superseded for longer than the grace period.", questions.Sweep,
        {200: _json("What was, or would be, removed.", SweptView)}, (400,),
    ),
    Operation(
        "get", "/events", "Follow the changes of references.", questions.Nothing,
        {200: Answer("Each change as it happens, until the client leaves.",
                     {"text/event-stream": (EventView,), LINES: (EventView,)})}, (400, 410),
    ),
    Operation(
        "get", "/openapi.json", "Read this document.", questions.Nothing,
        {200: _json("The document.")}, (400,),
    ),
    *_PROBES,
)  # fmt: skip


def document() -> dict[str, Any]:
    """Return the document."""
    kinds = {Problem, PublishRequest}
    kinds |= {
        kind
        for one in OPERATIONS
        for answer in one.answers.values()
        for some in answer.content.values()
        for kind in some
    }
    _, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(PREFIX + operation.path, {})[operation.method] = _operation(operation)
    for operation in _PROBES:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "podbridge control API", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(operation: Operation) -> dict[str, Any]:
    parameters = _query_parameters(operation.query)
    if operation.path == _REFERENCE:
        pattern = {"type": "string", "description": "REPOSITORY:TAG; its slashes may stand as they are."}
        parameters.append({"name": "reference", "in": "path", "required": True, "schema": pattern})
    if operation.path == "/events":
        header = {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}
        parameters.append({**header, "description": "Begin with what followed this event."})
    content = {str(status): _answer(answer) for status, answer in operation.answers.items()}
    content |= {str(status): _problem(status) for status in operation.errors}
    described: dict[str, Any] = {"summary": operation.summary, "parameters": parameters, "responses": content}
    if (operation.method, operation.path) == ("post", "/publications"):
        described["requestBody"] = {"required": True, "content": {_JSON: {"schema": _reference(PublishRequest)}}}
    return described


def _query_parameters(kind: _Struct) -> list[dict[str, Any]]:
    """Return the words of a query, from the struct that it is read into."""
    _, components = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}")
    described = components[kind.__name__]
    required = described.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": schema}
        for name, schema in described["properties"].items()
    ]


def _answer(answer: Answer) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.says}
    if answer.content:
        described["content"] = {kind: _content(kind, structs) for kind, structs in answer.content.items()}
    return described


def _content(kind: str, structs: tuple[_Struct, ...]) -> dict[str, Any]:
    if kind != _JSON:
        return {"schema": {"type": "string"}}
    if not structs:
        return {"schema": {"type": "object"}}
    references = [_reference(struct) for struct in structs]
    return {"schema": references[0] if len(references) == 1 else {"anyOf": references}}


def _problem(status: int) -> dict[str, Any]:
    says = {400: "The request is wrong.", 404: "There is no such thing.", 409: "It is refused.", 410: "Too long ago."}
    content = {_JSON: {"schema": _reference(Problem)}}
    return {"description": says.get(status, "It cannot be done now."), "content": content}


def _reference(kind: _Struct) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
