"""The OpenAPI document: it says what the service does, and the service does what it says."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any, Never

import hypothesis
import jsonschema_rs
import msgspec
import schemathesis
from schemathesis.checks import CheckFunction
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from bridge.control import openapi
from bridge.control.api import Control, Sources
from bridge.control.feed import Feed
from tests.control.asking import ask, publish
from tests.double.gates import DEADLINE
from tests.faults.world import World

EXAMPLES = hypothesis.settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)
NOT_CHECKED: list[CheckFunction] = [positive_data_acceptance]
"""A reference, or the name of an image, is more than a string: no schema can say which ones are good."""


@contextlib.asynccontextmanager
async def on_tcp(world: World) -> AsyncIterator[str]:
    """Reach the control socket by a TCP port while the block runs; yields the address."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(str(world.control))
        await asyncio.gather(pass_on(reader, far_writer), pass_on(far_reader, writer))

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while content := await reader.read(65536):
                writer.write(content)
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}"


def hold_to_document(document: dict[str, Any], address: str) -> set[str]:
    """Ask what the document allows, and what it does not, and check every answer; return the operations."""
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=address, request_timeout=DEADLINE)
    seen = set()
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        if operation.path.endswith("/events"):
            continue  # its answer has no end: test_events follows it
        seen.add(operation.label)

        @EXAMPLES
        @hypothesis.given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE))
        def right(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(excluded_checks=NOT_CHECKED)

        @EXAMPLES
        @hypothesis.given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
        def wrong(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(excluded_checks=NOT_CHECKED)

        right()
        with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # nothing can be wrong about it
            wrong()
    return seen


async def test_the_service_answers_as_the_document_says(world: World) -> None:
    async with world.podman(), world.service(), on_tcp(world) as address:
        world.double.build("localhost/app:1")
        document = (await ask(world, "GET", "openapi.json")).json
        asked = await asyncio.to_thread(hold_to_document, document, address)
        assert len(asked) == sum(len(methods) for methods in document["paths"].values()) - 1
        assert (await ask(world, "GET", "status")).status == 200


async def test_the_document_is_served_and_is_openapi(world: World) -> None:
    async with world.podman(), world.service():
        document = (await ask(world, "GET", "openapi.json")).json
        assert document == json.loads(msgspec.json.encode(openapi.document()))
        assert document["openapi"] == "3.1.0"
        validator = schemathesis.openapi.from_dict(document)
        assert len(list(validator.get_all_operations())) == len(openapi.OPERATIONS) + 6  # probes at two places
        for schema in document["components"]["schemas"].values():
            jsonschema_rs.validator_for({**schema, "components": document["components"]})


async def test_every_answer_of_a_publication_fits_its_schema(world: World) -> None:
    world.settings |= {"publish": [{"match": "localhost/hand/*", "skip": True}]}
    async with world.podman(), world.service():
        world.double.build("localhost/hand/app:1")
        listed = openapi.document()
        schema = {"$ref": "#/components/schemas/PublicationList", "components": listed["components"]}
        for query, status in (("", 201), ("?wait=false", 202)):
            answer = await publish(world, {"image": "hand/app:1", "as": "one:1"}, f"publications{query}")
            assert answer.status == status
            jsonschema_rs.validate(schema, answer.json)
        status_schema = {"$ref": "#/components/schemas/Status", "components": listed["components"]}
        jsonschema_rs.validate(status_schema, await world.status())


def test_every_route_is_in_the_document_and_nothing_else() -> None:
    def unused() -> Never:
        raise AssertionError

    sources = Sources(unused, Feed(), unused)  # type: ignore[arg-type]
    routes = {
        (route.method.lower(), re.sub(r"\{(\w+):[^}]*\}", r"{\1}", route.resource.canonical))
        for route in Control(sources, 8).application().router.routes()
        if route.resource is not None
    }
    paths = openapi.document()["paths"]
    assert routes == {(method, path) for path, methods in paths.items() for method in methods}
