"""Answers: what operations return, and errors in the form of Hadoop's REST services."""

from __future__ import annotations

import json
from typing import NamedTuple

from aiohttp import web

from .. import errors
from ..errors import EstimatorError
from ..operations import Outcome

_ESTIMATOR = "org.apache.hadoop.resourceestimator"


class LogNotFound(EstimatorError):
    """No log of that name is where logs may be read from."""


class Forbidden(EstimatorError):
    """That is not allowed here."""


class TooLarge(EstimatorError):
    """A body is larger than the service reads."""


class NotFound(EstimatorError):
    """There is no such route."""


class _Java(NamedTuple):
    """What Hadoop's service answers for an error: HTTP status and the class of its exception."""

    status: int
    package: str
    name: str


def _store(name: str) -> _Java:
    return _Java(503, f"{_ESTIMATOR}.skylinestore.exceptions", name)


# The nearest class first. 503 for whatever store and solver refuse is what Hadoop's error mapper makes of them.
_CLASSES: dict[type[EstimatorError], _Java] = {
    errors.InvalidInput: _Java(503, f"{_ESTIMATOR}.solver.exceptions", "InvalidInputException"),
    errors.SolverError: _Java(503, f"{_ESTIMATOR}.solver.exceptions", "SolverException"),
    errors.NullRecurrenceId: _store("NullRecurrenceIdException"),
    errors.NullPipelineId: _store("NullPipelineIdException"),
    errors.NullResourceSkyline: _store("NullResourceSkylineException"),
    errors.NullPrediction: _store("NullRLESparseResourceAllocationException"),
    errors.EmptyResourceSkyline: _store("EmptyResourceSkylineException"),
    errors.DuplicateRecurrenceId: _store("DuplicateRecurrenceIdException"),
    errors.RecurrenceIdNotFound: _store("RecurrenceIdNotFoundException"),
    errors.SkylineStoreError: _store("SkylineStoreException"),
    errors.ParseError: _Java(400, f"{_ESTIMATOR}.translator.exceptions", "DataFieldNotFoundException"),
    errors.BadArgument: _Java(400, "java.lang", "IllegalArgumentException"),
    LogNotFound: _Java(404, "java.io", "FileNotFoundException"),
    NotFound: _Java(404, "javax.ws.rs", "NotFoundException"),
    Forbidden: _Java(403, "javax.ws.rs", "ForbiddenException"),
    TooLarge: _Java(413, "javax.ws.rs", "ClientErrorException"),
    EstimatorError: _Java(503, "javax.ws.rs", "ServiceUnavailableException"),
}


def done(outcome: Outcome) -> web.Response:
    """The answer to a request that was done."""
    # As a header: aiohttp's own argument takes no parameters such as the charset.
    return web.Response(body=outcome.body, headers={"Content-Type": outcome.media})


def json_document(document: object) -> web.Response:
    """Done, with a document to say."""
    return done(Outcome(json.dumps(document, separators=(",", ":")).encode()))


def nothing() -> web.Response:
    """Done, and nothing to say."""
    return web.Response(status=204)


def refused(error: EstimatorError) -> web.Response:
    """The answer to a request that was not done."""
    java = next(_CLASSES[each] for each in type(error).__mro__ if each in _CLASSES)
    later = isinstance(error, errors.Busy | errors.WorkerFailed)
    return remote_exception(java.status, java.package, java.name, str(error), {"Retry-After": "1"} if later else {})


def not_allowed(allowed: set[str]) -> web.Response:
    """There is such a route, but not with this method."""
    methods = ", ".join(sorted(allowed))
    return remote_exception(405, "javax.ws.rs", "NotAllowedException", f"use {methods}", {"Allow": methods})


def remote_exception(status: int, package: str, name: str, text: str, headers: dict[str, str]) -> web.Response:
    """An error as Hadoop's clients read it."""
    document = {"RemoteException": {"exception": name, "message": text, "javaClassName": f"{package}.{name}"}}
    answer = json_document(document)
    answer.set_status(status)
    answer.headers.update(headers)
    return answer
